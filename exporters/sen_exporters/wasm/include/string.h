/* What the C export uses of the header: instructions of bulk memory. */
#include <stddef.h>
#define memcpy __builtin_memcpy
#define memset __builtin_memset
