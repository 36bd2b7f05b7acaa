/* A DLL without the C runtime needs an entry of its own. */
typedef int gpcnn_windows;
#ifdef _WIN32
int __stdcall DllMainCRTStartup(void *module, unsigned reason, void *reserved);
int __stdcall DllMainCRTStartup(void *module, unsigned reason, void *reserved) {
  (void)module, (void)reason, (void)reserved;
  return 1;
}
int _fltused; /* the compiler's mark of code that uses floating point */
#endif
