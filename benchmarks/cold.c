/* Runs a program several times, and prints for each run how long it took and how much memory it held at most.
 *
 *     cold RUNS PROGRAM [ARGUMENT...]
 *
 * One line a run: milliseconds from before the fork to after the end, and kilobytes. A small program must do this: Linux
 * counts the memory of the process that starts another one as memory of the other. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int main(int count, char **arguments) {
  if (count < 3) {
    fprintf(stderr, "cold: expected RUNS PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  for (int run = atoi(arguments[1]); run > 0; run--) {
    const double begin = now();
    const pid_t child = fork();
    if (child == 0) {
      const int sink = open("/dev/null", O_WRONLY);
      dup2(sink, STDOUT_FILENO);
      execvp(arguments[2], arguments + 2);
      _exit(127);
    }
    int status;
    struct rusage used;
    if (child < 0 || wait4(child, &status, 0, &used) < 0 || !WIFEXITED(status) || WEXITSTATUS(status)) {
      fprintf(stderr, "cold: %s failed\n", arguments[2]);
      return 1;
    }
#ifdef __APPLE__
    used.ru_maxrss /= 1024; /* bytes there */
#endif
    printf("%.3f %ld\n", now() - begin, (long)used.ru_maxrss);
  }
  return 0;
}
