/* Between gpcnn_pictures.h and the kernel: what every decoder begins with. */
#ifndef GPCNN_INNER_PICTURES_H
#define GPCNN_INNER_PICTURES_H
#include "gpcnn_pictures.h"
#include "kernel.h"

struct gpcnn_decoder {
  const gpcnn_kernel *kernel;
  gpcnn_pictures spec;
};
#endif
