/* Tables of figures that can be put in order, and links from an image's figures to the image. */

/** What a cell counts as: a number where it is one, else its text; nothing ("–") comes last. */
function cellValue(row, column) {
  const said = row.cells[column].textContent.trim();
  if (said === "–" || said === "") return null;
  const value = Number(said.replaceAll(",", ""));
  return Number.isNaN(value) ? said.toLowerCase() : value;
}

function sortBy(head) {
  const table = head.closest("table");
  const column = [...head.parentNode.cells].indexOf(head);
  // Figures: the highest first. Names: from A.
  const usual = head.classList.contains("num") ? "descending" : "ascending";
  const other = usual === "descending" ? "ascending" : "descending";
  const order = head.getAttribute("aria-sort") === usual ? other : usual;
  for (const cell of head.parentNode.cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => [cellValue(row, column), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (a < b ? -1 : a > b ? 1 : 0);
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

/** Shows the image of this name in the viewer, or where it was not chosen, what is near to it. */
function openImage(file) {
  Object.assign(choice, usual, { sort: choice.sort });
  update();
  const place = shown.findIndex((item) => item.file === file);
  if (place >= 0) return openViewer(place);
  choice.q = file;
  update();
  document.getElementById("gallery").scrollIntoView();
}

document.getElementById("evaluation")?.addEventListener("click", (event) => {
  const head = event.target.closest(".sortable th");
  if (head && event.target.closest("button")) sortBy(head);
  const link = event.target.closest("a[data-open]");
  if (link) {
    event.preventDefault();
    openImage(link.dataset.open);
  }
});
