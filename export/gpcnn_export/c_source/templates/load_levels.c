  size_t top_bytes = 0, file_bytes = 0;
  const void *top_file = model_top_file(&top_bytes), *file = model_file(&file_bytes);
  gpcnn_model *model = load("top.bin", top_file, top_bytes), *bottom = load("model.bin", file, file_bytes);
  const gpcnn_spec *top = gpcnn_model_spec(model), *below = gpcnn_model_spec(bottom);
  if (top->height != below->map_height || top->width != below->map_width || below->conditioning_size != 1)
    fail("top.bin", "it is not of the same model as model.bin");
  const size_t top_workspace = workspace_of(model), bottom_workspace = workspace_of(bottom);
  const size_t workspace_bytes = top_workspace > bottom_workspace ? top_workspace : bottom_workspace;
  void *workspace = allocate(workspace_bytes);
  /* The codes of both levels lie in one sheet, and so does their noise: the top codes first, then the bottom ones. */
  gpcnn_spec sheet = *below;
  sheet.height += sheet.height / 4;
  const size_t codes = (size_t)sheet.height * sheet.width;
  float *noise = allocate(codes * sizeof *noise), *condition = NULL; /* a VQ-VAE-2 takes a label or nothing */
  int32_t *image = allocate(codes * sizeof *image);
