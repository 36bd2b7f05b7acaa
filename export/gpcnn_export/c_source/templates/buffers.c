static _Alignas(GPCNN_ALIGNMENT) unsigned char memory[MODEL_MEMORY_BYTES], workspace[MODEL_WORKSPACE_BYTES];
static float noise[MODEL_SUBPIXELS], condition[MODEL_CONDITION + 1];
static int32_t image[MODEL_SUBPIXELS];
