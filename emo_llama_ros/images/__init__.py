"""Image messages become RGB pixels: every raw encoding that cameras publish, JPEG and PNG."""
