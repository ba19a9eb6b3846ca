/* What the C export uses of the header: an instruction. */
#define sqrtf __builtin_sqrtf
