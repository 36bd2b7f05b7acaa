/* The public functions of gpcnn.h: they choose the kernel, check what the caller passes, and call it. */
#include "cpu.h"
#include "kernel.h"
#include "text.h"

#if defined(__x86_64__) && !defined(GPCNN_ONE_KERNEL)
extern const gpcnn_kernel gpcnn_kernel_v2, gpcnn_kernel_v3, gpcnn_kernel_v3_unfused, gpcnn_kernel_v4, gpcnn_kernel_v4_unfused;
/* The best first; `level`: what the CPU must have. The first whose class is asked for is taken. */
static const struct { const gpcnn_kernel *kernel; int level; } KERNELS[] = {
    {&gpcnn_kernel_v4, 4}, {&gpcnn_kernel_v4_unfused, 4}, {&gpcnn_kernel_v3, 3}, {&gpcnn_kernel_v3_unfused, 3},
    {&gpcnn_kernel_v2, 2}};
static int cpu_level(void) { return x86_64_level(); }
#else
extern const gpcnn_kernel gpcnn_kernel_base;
#if GPCNN_BASE_FUSES
extern const gpcnn_kernel gpcnn_kernel_base_unfused;
#endif
static const struct { const gpcnn_kernel *kernel; int level; } KERNELS[] = {
    {&gpcnn_kernel_base, 0},
#if GPCNN_BASE_FUSES
    {&gpcnn_kernel_base_unfused, 0},
#endif
};
static int cpu_level(void) { return 0; }
#endif
enum { KERNEL_COUNT = sizeof KERNELS / sizeof *KERNELS };

static const gpcnn_kernel *choose_kernel(const gpcnn_options *options) {
  const int level = cpu_level();
  for (int i = 0; i < KERNEL_COUNT; i++) {
    const gpcnn_kernel *kernel = KERNELS[i].kernel;
    if (KERNELS[i].level > level || (options && options->reproducible && kernel->fused)) continue;
    if (!options || !options->instructions || same_text(options->instructions, kernel->name)) return kernel;
  }
  return 0;
}

uint32_t gpcnn_abi(void) { return GPCNN_ABI; }
const char *gpcnn_instructions(void) { return choose_kernel(0)->text; }
const char *gpcnn_model_instructions(const gpcnn_model *model) { return model->kernel->text; }
const gpcnn_spec *gpcnn_model_spec(const gpcnn_model *model) { return &model->spec; }

const char *gpcnn_instruction_set(uint32_t index) {
  const int level = cpu_level();
  for (int i = 0; i < KERNEL_COUNT; i++) {
    if (KERNELS[i].level > level || (i && same_text(KERNELS[i].kernel->name, KERNELS[i - 1].kernel->name))) continue;
    if (!index--) return KERNELS[i].kernel->name;
  }
  return 0;
}

const char *gpcnn_status_text(gpcnn_status status) {
  switch (status) {
    case GPCNN_OK: return "all is well";
    case GPCNN_BAD_FILE: return "the file is no model file, or it is damaged";
    case GPCNN_BAD_SPEC: return "the model's dimensions are out of range, or contradict its weights";
    case GPCNN_BAD_ARGUMENT: return "an argument is missing or out of range";
    case GPCNN_OUT_OF_MEMORY: return "the memory given is too small, or is not aligned to 64 bytes";
    case GPCNN_CANCELLED: return "drawing was cancelled";
    case GPCNN_NEWER_FILE: return "the file was written for a newer version of this library";
  }
  return "unknown status";
}

static int aligned(const void *memory) { return memory && (uintptr_t)memory % GPCNN_ALIGNMENT == 0; }

#if !GPCNN_PACKED_ONLY
/* Enough for every kernel that this CPU can run, so that the choice of one can come later. */
static uint64_t most_model_bytes(const gpcnn_spec *spec) {
  const int level = cpu_level();
  uint64_t most = 0;
  for (int i = 0; i < KERNEL_COUNT; i++) {
    if (KERNELS[i].level > level) continue;
    const uint64_t bytes = KERNELS[i].kernel->model_bytes(spec);
    if (!bytes) return 0;
    if (bytes > most) most = bytes;
  }
  return most;
}

static gpcnn_status read_file(const void *file, size_t file_bytes, gpcnn_info *info, gpcnn_head_offsets *head) {
  if (!file || !info) return GPCNN_BAD_ARGUMENT;
  const gpcnn_status status = gpcnn_file_read(file, file_bytes, info, head);
  if (status) return status;
  info->model_bytes = most_model_bytes(&info->spec);
  return info->model_bytes ? GPCNN_OK : GPCNN_OUT_OF_MEMORY;
}

gpcnn_status gpcnn_inspect(const void *file, size_t file_bytes, gpcnn_info *info) {
  gpcnn_head_offsets head;
  return read_file(file, file_bytes, info, &head);
}

gpcnn_status gpcnn_load_with(const gpcnn_options *options, const void *file, size_t file_bytes, void *memory,
                             size_t memory_bytes, gpcnn_model **model) {
  gpcnn_info info;
  gpcnn_head_offsets head;
  const gpcnn_kernel *kernel = choose_kernel(options);
  if (!kernel || !model) return GPCNN_BAD_ARGUMENT;
  const gpcnn_status status = read_file(file, file_bytes, &info, &head);
  if (status) return status;
  if (!aligned(memory) || memory_bytes < info.model_bytes) return GPCNN_OUT_OF_MEMORY;
  return kernel->load(kernel, file, &info.spec, &head, memory, memory_bytes, model);
}

gpcnn_status gpcnn_load(const void *file, size_t file_bytes, void *memory, size_t memory_bytes, gpcnn_model **model) {
  return gpcnn_load_with(0, file, file_bytes, memory, memory_bytes, model);
}
#endif

gpcnn_status gpcnn_attach(const gpcnn_packed *packed, void *memory, size_t memory_bytes, gpcnn_model **model) {
  const int level = cpu_level();
  if (!packed || !model || !packed->weights || !aligned(packed->weights)) return GPCNN_BAD_ARGUMENT;
  if (!aligned(memory)) return GPCNN_OUT_OF_MEMORY;
  for (int i = 0; i < KERNEL_COUNT; i++)
    if (KERNELS[i].level <= level && KERNELS[i].kernel->block == packed->block)
      return KERNELS[i].kernel->attach(KERNELS[i].kernel, packed, memory, memory_bytes, model);
  return GPCNN_BAD_ARGUMENT;
}

size_t gpcnn_workspace_bytes(const gpcnn_model *model, uint32_t images) {
  return images ? model->kernel->workspace_bytes(model, images) : 0;
}

/* Values are finite, and categories whole numbers below their count. */
static int map_in_range(const gpcnn_spec *spec, const gpcnn_request *r) {
  const size_t numbers = (size_t)r->images * spec->conditioning_size * spec->map_height * spec->map_width;
  if (!r->map) return 0;
  for (size_t x = 0; x < numbers; x++) {
    const float number = r->map[x];
    if (!(number > -__builtin_inff() && number < __builtin_inff())) return 0;
    if (spec->map_categories && !(number >= 0 && number < (float)spec->map_categories && number == (float)(uint32_t)number))
      return 0;
  }
  return 1;
}

/* Are all numbers of the request in range? Comparisons are written so that NaN is not. */
static int in_range(const gpcnn_spec *spec, const gpcnn_request *r) {
  if (!r->images || !r->image || r->window > spec->width) return 0;
  if (r->temperature != 0 && !(r->temperature > 0 && r->temperature < __builtin_inff())) return 0;
  if (r->mask && !r->known) return 0;
  const size_t subpixels = (size_t)r->images * spec->channels * spec->height * spec->width;
  for (size_t x = 0; x < subpixels; x++) {
    if (r->mask && r->mask[x]) {
      if (r->known[x] < 0 || r->known[x] >= (int32_t)spec->levels) return 0;
    } else if (!r->noise || !(r->noise[x] >= 0 && r->noise[x] < 1)) {
      return 0;
    }
  }
  for (uint32_t image = 0; image < r->images && spec->conditioning == GPCNN_LABEL; image++)
    if (!r->label || r->label[image] < 0 || (uint32_t)r->label[image] >= spec->conditioning_size) return 0;
  if (spec->conditioning == GPCNN_EMBEDDING) {
    if (!r->embedding) return 0;
    const size_t numbers = (size_t)r->images * spec->conditioning_size;
    for (size_t x = 0; x < numbers; x++)
      if (!(r->embedding[x] > -__builtin_inff() && r->embedding[x] < __builtin_inff())) return 0;
  }
  return spec->conditioning != GPCNN_MAP || map_in_range(spec, r);
}

gpcnn_status gpcnn_draw(const gpcnn_model *model, const gpcnn_request *request, void *workspace, size_t workspace_bytes) {
  if (!model || !request || !request->images) return GPCNN_BAD_ARGUMENT;
  const size_t needed = gpcnn_workspace_bytes(model, request->images);
  if (!needed || workspace_bytes < needed || !aligned(workspace)) return GPCNN_OUT_OF_MEMORY;
  if (!in_range(&model->spec, request)) return GPCNN_BAD_ARGUMENT;
  return model->kernel->draw(model, request, workspace);
}
