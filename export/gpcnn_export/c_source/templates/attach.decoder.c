  gpcnn_decoder *decoder;
  status = gpcnn_decoder_attach(model, &model_decoder, decoder_memory, sizeof decoder_memory, &decoder);
  if (status) fail("decoder", gpcnn_status_text(status));
  status = gpcnn_decode(decoder, 1, image, picture, workspace, workspace_bytes); /* `image` holds codes */
  if (status) fail("decoder", gpcnn_status_text(status));
  write_picture(arguments[1], &model_decoder.spec, picture);
