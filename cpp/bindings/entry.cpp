// Pulls the bindings, which are an archive, into the module: nothing in it but this names what CPython looks for.
struct _object;
extern "C" _object* PyInit__core();

namespace {
[[gnu::used]] _object* (*const entry)() = &PyInit__core;
}  // namespace
