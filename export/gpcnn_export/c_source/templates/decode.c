  const gpcnn_pictures *shown = &model_pictures;
  uint64_t floats;
  const float *weights = model_decoder(&floats);
  if (!weights) fail("decoder.bin", "cannot be read: run the program where that file is");
  const uint64_t decoder_bytes = gpcnn_decoder_bytes(@PRIOR@, shown);
  if (!decoder_bytes) fail("decoder", "too large for this machine");
  gpcnn_decoder *decoder;
  status = gpcnn_decoder_load(@PRIOR@, shown, weights, floats, allocate(decoder_bytes), decoder_bytes, &decoder);
  if (status) fail("decoder", gpcnn_status_text(status));
  const size_t decoding_bytes = gpcnn_decoder_workspace_bytes(decoder);
  if (!decoding_bytes) fail("decoder", "too large for this machine");
  const size_t values = (size_t)shown->channels * shown->height * shown->width;
  uint8_t *picture = allocate(values);
  status = gpcnn_decode(decoder, 1, image, picture, allocate(decoding_bytes), decoding_bytes); /* `image` holds codes */
  if (status) fail("decoder", gpcnn_status_text(status));
  write_picture(arguments[1], shown, picture);
