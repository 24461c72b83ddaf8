"""The report of a run or a group of seeds: `build.py` collects its numbers, `page.py` shows them."""
