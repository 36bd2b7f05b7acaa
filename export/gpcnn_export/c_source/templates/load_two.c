static gpcnn_model *load(const char *name, const void *file, size_t bytes) {
  if (!file) fail(name, "cannot be read: run the program where that file is");
  gpcnn_info info;
  gpcnn_status status = gpcnn_inspect(file, bytes, &info);
  if (status) fail(name, gpcnn_status_text(status));
  gpcnn_model *model;
  status = gpcnn_load(file, bytes, allocate(info.model_bytes), (size_t)info.model_bytes, &model);
  if (status) fail(name, gpcnn_status_text(status));
  return model;
}

static size_t workspace_of(const gpcnn_model *model) {
  const size_t bytes = gpcnn_workspace_bytes(model, 1);
  if (!bytes) fail("model", "too large for this machine");
  return bytes;
}
