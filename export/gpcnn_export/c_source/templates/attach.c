  gpcnn_model *model;
  const size_t workspace_bytes = sizeof workspace;
  const gpcnn_status loaded = gpcnn_attach(&model_packed, memory, sizeof memory, &model);
  if (loaded) fail("model", gpcnn_status_text(loaded));
