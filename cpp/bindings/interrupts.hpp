// Lets Ctrl-C end a long call of the core.
#pragma once

namespace latchwork::python {

// From now on a call that the core stops raises what a signal handler raised in the middle of it.
void hear_signals();

}  // namespace latchwork::python
