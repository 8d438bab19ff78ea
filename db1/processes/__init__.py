"""Worker processes that may crash or hang: one supervised process, and jobs that share several."""
