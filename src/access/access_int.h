/* access_int.h: what the files of access/ share. */
#ifndef LV_ACCESS_INT_H
#define LV_ACCESS_INT_H
#include "wire/http.h"

/* The request's Origin; empty: there is none. False: there are several. */
bool lv__access_origin(const lv_http_req *req, lv_slice *ret);

#endif
