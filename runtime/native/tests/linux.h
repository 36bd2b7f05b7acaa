/* The start, the end and the output of a Linux program without a C library, so that a cross compiler is all it needs. */
#ifndef GPCNN_LINUX_H
#define GPCNN_LINUX_H
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
enum { WRITE = 1, EXIT = 60 };
static long call(long number, long a, long b, long c) {
  __asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return number;
}
#elif defined(__i386__)
enum { WRITE = 4, EXIT = 1 };
static long call(long number, long a, long b, long c) {
  __asm__ volatile("int $0x80" : "+a"(number) : "b"(a), "c"(b), "d"(c) : "memory");
  return number;
}
#elif defined(__aarch64__)
enum { WRITE = 64, EXIT = 93 };
static long call(long number, long a, long b, long c) {
  register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
}
#elif defined(__arm__)
enum { WRITE = 4, EXIT = 1 };
static long call(long number, long a, long b, long c) {
  register long r7 __asm__("r7") = number, r0 __asm__("r0") = a, r1 __asm__("r1") = b, r2 __asm__("r2") = c;
  __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2) : "memory");
  return r0;
}
#elif defined(__riscv)
enum { WRITE = 64, EXIT = 93 };
static long call(long number, long a, long b, long c) {
  register long a7 __asm__("a7") = number, a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2) : "memory");
  return a0;
}
#elif defined(__powerpc64__)
enum { WRITE = 4, EXIT = 1 };
static long call(long number, long a, long b, long c) {
  register long r0 __asm__("r0") = number, r3 __asm__("r3") = a, r4 __asm__("r4") = b, r5 __asm__("r5") = c;
  __asm__ volatile("sc" : "+r"(r0), "+r"(r3), "+r"(r4), "+r"(r5)::"r6", "r7", "r8", "r9", "r10", "r11", "r12", "memory");
  return r3;
}
#else
#error "no system calls for this CPU"
#endif

static void say(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  call(WRITE, 1, (long)text, (long)length);
}

__attribute__((noreturn)) static void leave(int status) {
  for (;;) call(EXIT, status, 0, 0);
}

static void run(void);

__attribute__((noreturn, used, visibility("default")))
#if defined(__x86_64__) || defined(__i386__)
__attribute__((force_align_arg_pointer))
#endif
void _start(void) {
  run();
  leave(0);
}
#endif
