"""What a machine needs: files to fetch, checks before a start, advice."""
