/* SHA-256 (FIPS 180-4). */
#ifndef SHA256_H
#define SHA256_H

#include <stddef.h>
#include <stdint.h>

/* Writes 64 hex digits and a 0. */
void sha256_hex(const uint8_t *data, size_t length, char out[65]);

#endif
