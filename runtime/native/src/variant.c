/* One kernel. Compiled once for each instruction set and class of rounding, with
 *
 *     GPCNN_VARIANT       name of the table defined here, e.g. gpcnn_kernel_v3
 *     GPCNN_NAME          name of the instruction set, e.g. "x86-64-v3"
 *     GPCNN_VECTOR_BYTES  16, 32 or 64
 *     GPCNN_TILES         the header of register tiles, e.g. "tiles_6x2.h"
 *     GPCNN_FUSED         1 if multiply-adds are fused: with -ffp-contract=on (clang) or fast (gcc); else 0, and =off
 *     GPCNN_PACKED_ONLY   1 leaves out gpcnn_inspect and gpcnn_load; default 0
 *     GPCNN_DECODER       "decoder.h" adds the decoder of a VQ-VAE; default: none */
#include "draw.h"
#if GPCNN_PACKED_ONLY /* weights come packed: nothing here reads model files */
#define load_network 0
#define load_decoder 0
#else
#include "packing.h"
#endif
#ifdef GPCNN_DECODER
#include GPCNN_DECODER
#define DECODER , decoder_bytes, load_decoder, attach_decoder, decoder_workspace_bytes, decode
#else
#define DECODER , 0, 0, 0, 0, 0
#endif

const gpcnn_kernel GPCNN_VARIANT = {
    GPCNN_NAME, GPCNN_FUSED ? GPCNN_NAME ", fused multiply-add" : GPCNN_NAME ", reproducible", BLOCK, GPCNN_FUSED,
    model_bytes, load_network, attach_network, workspace_bytes, draw DECODER};
