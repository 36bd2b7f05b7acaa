/* Which level of x86-64 this CPU and its operating system can run: 2 (SSE4.2), 3 (AVX2, FMA) or 4 (AVX-512). */
#ifndef GPCNN_CPU_H
#define GPCNN_CPU_H
#if defined(__x86_64__) && !defined(GPCNN_ONE_KERNEL)
#include <stdint.h>

static inline void cpuid(uint32_t leaf, uint32_t out[4]) { /* eax, ebx, ecx, edx of subleaf 0 */
  __asm__("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(0));
}

static inline int has(uint32_t word, uint32_t bits) { return (word & bits) == bits; }

static inline int x86_64_level(void) {
  uint32_t most[4], one[4], seven[4], extended[4], low, high;
  cpuid(0, most);
  if (most[0] < 7) return 2;
  cpuid(1, one);
  cpuid(7, seven);
  cpuid(0x80000001u, extended);
  /* 1.ecx: FMA, MOVBE, OSXSAVE, AVX, F16C. 7.ebx: BMI1, AVX2, BMI2. 80000001.ecx: LZCNT */
  if (!has(one[2], 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29)) return 2;
  if (!has(seven[1], 1u << 3 | 1u << 5 | 1u << 8) || !has(extended[2], 1u << 5)) return 2;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0)); /* registers that the operating system keeps */
  if (!has(low, 0x6)) return 2;                       /* xmm, ymm */
  /* 7.ebx: AVX512F, DQ, CD, BW, VL. xcr0: opmask, zmm */
  if (!has(seven[1], 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31) || !has(low, 0xe6)) return 3;
  return 4;
}
#endif
#endif
