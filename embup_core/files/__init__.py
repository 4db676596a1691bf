"""Files and processes as the operating system offers them: atomic writes, held folders, process priority."""
