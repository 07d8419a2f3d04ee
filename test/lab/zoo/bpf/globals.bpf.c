/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Global sections: .bss, .data, .rodata, sections with other names, statics, a flexible array with elements. */
#include "zoo_bpf.h"
#include "../zoo_types.h"

/* .bss; z_globals_prog counts its runs in `runs` */
__u64 runs;
int zero_array[5];
struct zoo_nested empty_nested;
static volatile __u32 static_zero;

/* .data */
int answer = 42;
__s64 negative = -9000000000LL;
char greeting[16] = "hello\tzoo\"\\";
struct zoo_nested nested = {
	.word = 0x00020001,
	.wide = 0x8877665544332211ULL,
	.points = { { 1, -1 }, { 2, -2 }, { 3, -3 } },
	.matrix = { { { 1, 2 }, { 3, 4 }, { 5, 6 } }, { { -1, -2 }, { -3, -4 }, { -5, -6 } } },
	.named = { .tagged = 0x01020304 },
};
struct zoo_flexible flexible = { .count = 3, .items = { 10, 20, 30 } };
static volatile __s16 static_small = -7;
enum zoo_big big_enum = ZOO_BIG;

/* .rodata */
const volatile __u32 limit = 123456;
const volatile char motto[8] = "quiet";
static const volatile __u64 hidden = 0x1122334455667788ULL;

/* sections with other names */
__u32 custom SEC(".data.custom") = 0xc0ffee;
struct zoo_packed custom_packed SEC(".data.custom") = { 1, 2, 3, 4, 5 };
const volatile __u16 tuned SEC(".rodata.tuned") = 512;
__u64 aside SEC(".bss.aside");

SEC("socket")
int z_globals_prog(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&runs, 1);
	static_zero = 0;
	return answer + negative + greeting[0] + nested.word + flexible.count + static_small + limit + motto[0] + hidden +
	       custom + custom_packed.first + tuned + aside + zero_array[1] + empty_nested.word + static_zero + big_enum;
}
