"""The job's configuration, one file a group of sections; `job.JobConfig` is the whole.

In: TOML, flags and --set. Out: checked, frozen models. Open `job` first.
"""
