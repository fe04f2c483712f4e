/* main.c: entry of lavva-load, the load generator. All of it is one run; see load_int.h for the
 * shape and run.c for the phases. */
#include "load_int.h"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  lg_run *run = calloc(1, sizeof *run); /* histograms inside: too large for the stack */
  if (!run) return 70;
  lg_opts_parse(argc, argv, &run->opt);
  int code = lg_run_all(run);
  free(run);
  return code < 0 ? 70 : code;
}
