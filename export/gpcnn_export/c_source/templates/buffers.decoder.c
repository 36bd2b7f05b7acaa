static _Alignas(GPCNN_ALIGNMENT) unsigned char decoder_memory[MODEL_DECODER_BYTES];
static uint8_t picture[MODEL_PICTURE_BYTES];
