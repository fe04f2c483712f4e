/* unit.h: what each unit test of core/ includes: cmocka and its prerequisites in their order. */
#ifndef LV_TESTS_UNIT_CORE_UNIT_H
#define LV_TESTS_UNIT_CORE_UNIT_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(a) (sizeof(a) / sizeof *(a))

#endif
