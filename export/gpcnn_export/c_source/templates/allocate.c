/* Memory as the kernel wants it: its address a multiple of GPCNN_ALIGNMENT. The system takes it back in the end. */
static void *allocate(uint64_t bytes) {
  if (bytes > SIZE_MAX - GPCNN_ALIGNMENT) fail("memory", "the model is too large for this machine");
  char *block = malloc((size_t)bytes + GPCNN_ALIGNMENT);
  if (!block) fail("memory", "not enough of it");
  return block + (GPCNN_ALIGNMENT - (size_t)block % GPCNN_ALIGNMENT);
}
