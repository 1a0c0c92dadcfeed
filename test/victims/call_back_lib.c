// A library that is loaded and unloaded while a function of it is in the stacks of waits.
void call_from_plugin(void (*function)(void));

__attribute__((noinline)) void call_from_plugin(void (*function)(void)) {
  function();
  __asm__ volatile("" : : : "memory");
}
