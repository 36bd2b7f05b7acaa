  /* The top codes are the map that the model of the bottom codes is conditioned on. */
  const size_t top_codes = (size_t)spec->height * spec->width;
  float *map = allocate(top_codes * sizeof *map);
  for (size_t i = 0; i < top_codes; i++) map[i] = (float)image[i];
  gpcnn_request under = {0};
  under.images = 1;
  under.noise = noise + top_codes;
  under.map = map;
  under.image = image + top_codes;
  status = gpcnn_draw(bottom, &under, workspace, workspace_bytes);
  if (status) fail("model", gpcnn_status_text(status));
