/* crc_int.h: the portable CRC-32C, reachable for tests on machines that use the instruction. */
#ifndef LV_CORE_CRC_INT_H
#define LV_CORE_CRC_INT_H
#include <stddef.h>
#include <stdint.h>

uint32_t lv__crc32c_table(uint32_t crc, const void *p, size_t n);

#endif
