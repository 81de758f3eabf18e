/* Errors end this program with one line and exit code 1. An app puts its own way of failing here. */
#ifndef FAIL_H
#define FAIL_H

#include <stddef.h>

_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* malloc, zeroed, that fails instead of giving NULL. */
void *allocate(size_t count, size_t size);

#endif
