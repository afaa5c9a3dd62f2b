"""What a network says, and where that lies in the picture.

In: outputs on a grid. Out: maps in the picture's pixels. Open `geometry` first.
"""
