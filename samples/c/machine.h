/* Which variants of a bundle this machine runs. */
#ifndef MACHINE_H
#define MACHINE_H

#include "json.h"

/* Why ONNX Runtime's CPU provider cannot run a variant here; NULL if nothing speaks against a try. The text is good until
 * the next call. */
const char *why_not(const Json *variant);

#endif
