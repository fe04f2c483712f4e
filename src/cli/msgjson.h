/* msgjson.h: messages as JSON for people and tools: a value that is JSON stands as it is, text as a
 * string, anything else in base64. */
#ifndef LV_CLI_MSGJSON_H
#define LV_CLI_MSGJSON_H
#include "cli/template.h"
#include <jansson.h>
#include <stdio.h>

void lv_cli_base64(lv_slice s, lv_cli_text *out); /* appends; RFC 4648 §4 */
/* Sets a string; bytes that are no UTF-8 are replaced by `?`. */
void lv_cli_json_text(json_t *obj, const char *name, lv_slice s);
/* One line on out: obj with `val` or `b64` added. A value that is JSON is written byte for byte
 * (line ends in it become spaces). */
void lv_cli_json_line(const json_t *obj, lv_slice value, FILE *out);

#endif
