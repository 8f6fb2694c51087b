/* A host of its own for a process, as far as the C library tells: its clock, and its name server.

   CHAOS_CLOCK names a file with the seconds by which the clock is ahead; CHAOS_NAMES one that
   is 0 while the name server answers. Both are mapped, so a change counts at once, in children too.
   Clocks that never jump are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t zero;
static const volatile int64_t *ahead = &zero, *silent = &zero;

static const volatile int64_t *map(const char *variable) {
  const char *file = getenv(variable);
  int descriptor = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
  if (descriptor < 0) return &zero;
  void *page = mmap(0, sizeof zero, PROT_READ, MAP_SHARED, descriptor, 0);
  close(descriptor);
  return page == MAP_FAILED ? &zero : page;
}

__attribute__((constructor)) static void begin(void) {
  ahead = map("CHAOS_CLOCK");
  silent = map("CHAOS_NAMES");
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, now);
  if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *ahead;
  return result;
}

int gettimeofday(struct timeval *now, void *zone) {
  struct timespec exact;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *now) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (now) *now = exact.tv_sec;
  return exact.tv_sec;
}

/* Some builds of Python wait until a time of this clock, which the kernel knows as another one. */
int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
  static int (*real)(sem_t *, const struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "sem_timedwait");
  struct timespec known = *until;
  known.tv_sec -= *ahead;
  return real(semaphore, &known);
}

/* Every name below .test is this machine. A name server that is silent fails after 25 s. */
int getaddrinfo(const char *name, const char *port, const struct addrinfo *hints,
                struct addrinfo **found) {
  static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
  if (!real) real = dlsym(RTLD_NEXT, "getaddrinfo");
  size_t length = name ? strlen(name) : 0;
  if (length < 5 || strcmp(name + length - 5, ".test")) return real(name, port, hints, found);
  for (int waited = 0; *silent; waited++) {
    if (waited == 2500) return EAI_AGAIN;
    usleep(10000);
  }
  return real("127.0.0.1", port, hints, found);
}
