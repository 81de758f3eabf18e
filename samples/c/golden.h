/* The proof that a bundle gives on this machine what it gave where it was packed. */
#ifndef GOLDEN_H
#define GOLDEN_H

#include "bundle.h"

/* Run the golden samples of one variant, or of all that run here where the name is NULL; print a line or (json) an
 * object for each. Gives whether all are within the manifest's tolerance. */
bool golden_check(const Bundle *bundle, const char *variant, bool json);

#endif
