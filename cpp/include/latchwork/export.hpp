#pragma once

#include "latchwork/types.hpp"

// What the shared library offers; it hides all else.
#ifdef __GNUC__
#define LATCHWORK_API __attribute__((visibility("default")))
#else
#define LATCHWORK_API
#endif
