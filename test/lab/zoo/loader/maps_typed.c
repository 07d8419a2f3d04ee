/* SPDX-License-Identifier: Apache-2.0 */
/* Values that are hard to print, each with its expected JSON, written by hand (README.md has the rules). */
#include "zoo.h"
#include "../zoo_types.h"

#include <stdlib.h>
#include <string.h>

EMBEDDED(typed);
EMBEDDED(globals);
static struct bpf_object *object;

static int begin(const char *name, const char *content)
{
	int fd = object_map(object, name);
	if (fd >= 0)
		map_open(fd, content, NULL);
	return fd;
}

#define PUT(fd, key, value, expect) put(fd, &(key), sizeof(key), &(value), sizeof(value), expect)

static void bits(void)
{
	int fd = begin("z_bits", "entries");
	if (fd < 0)
		return;
	/* Padding is part of a value. It is set first; the hole of 7 bits stays 0. */
	struct zoo_bits v;
	memset(&v, 0, sizeof(v));
	v.a = 1, v.b = 5, v.c = -13, v.d = 0x7abcde, v.e = 0x1fedcba98ULL, v.f = -1000000000, v.g = 9, v.h = 14;
	v.mood = ZOO_GRUMPY, v.flag = true, v.after = 1234, v.whole = 0xffffffffffffffffULL;
	PUT(fd, (enum zoo_mood){ ZOO_GRUMPY }, v,
	    "{\"a\":1,\"b\":5,\"c\":-13,\"d\":8043742,\"e\":\"8570845848\",\"f\":\"-1000000000\",\"g\":9,\"h\":14,"
	    "\"mood\":\"ZOO_GRUMPY\",\"flag\":true,\"after\":1234,\"whole\":\"18446744073709551615\"}");
	memset(&v, 0, sizeof(v));
	v.c = 15, v.f = 0x3fffffff, v.mood = ZOO_HAPPY;
	PUT(fd, (enum zoo_mood){ ZOO_WORST }, v,
	    "{\"a\":0,\"b\":0,\"c\":15,\"d\":0,\"e\":\"0\",\"f\":\"1073741823\",\"g\":0,\"h\":0,"
	    "\"mood\":\"ZOO_HAPPY\",\"flag\":false,\"after\":0,\"whole\":\"0\"}");
	map_close();
}

static void nested_value(struct zoo_nested *v, int step)
{
	memset(v, 0, sizeof(*v));
	v->low = 1 + step, v->high = 0x8000;
	v->left = -1, v->right = -2147483647 - 1;
	for (int i = 0; i < 3; i++)
		v->points[i].x = i + step, v->points[i].y = -i;
	for (int i = 0; i < 12; i++)
		((__s16 *)v->matrix)[i] = (__s16)(100 * i - 500);
	v->named.tagged = 0xa1b2c3d4;
}

static const char nested_expect[] =
	"{\"low\":1,\"high\":32768,\"word\":2147483649,"
	"\"wide\":\"9223372041149743103\",\"bytes\":[255,255,255,255,0,0,0,128],\"left\":-1,\"right\":-2147483648,\"right_half\":0,"
	"\"points\":[{\"x\":0,\"y\":0},{\"x\":1,\"y\":-1},{\"x\":2,\"y\":-2}],"
	"\"matrix\":[[[-500,-400],[-300,-200],[-100,0]],[[100,200],[300,400],[500,600]]],"
	"\"nothing\":{},\"named\":{\"tag\":212,\"tagged\":2712847316}}";

static void nested(void)
{
	struct zoo_nested v;
	int fd = begin("z_nested", "entries");
	if (fd >= 0) {
		nested_value(&v, 0);
		PUT(fd, (__u32){ 0 }, v, nested_expect);
		memset(&v, 0, sizeof(v));
		PUT(fd, (__u32){ 1 }, v, NULL);
		map_close();
	}
	fd = begin("z_percpu_struct", "percpu");
	if (fd >= 0) {
		struct zoo_nested *all = percpu_alloc(sizeof(v));
		for (__u32 key = 0; key < 2; key++) {
			for (int cpu = 0; cpu < zoo.cpus; cpu++)
				nested_value(&all[cpu], 100 * (int)key + cpu);
			put_percpu(fd, &key, sizeof(key), all, sizeof(v));
		}
		free(all);
		map_close();
	}
}

static void scalars(void)
{
	int fd = begin("z_scalars", "entries");
	if (fd < 0)
		return;
	struct zoo_scalars v;
	memset(&v, 0, sizeof(v));
	v.yes = true, v.s8 = -128, v.letter = 'z', v.byte = 200, v.s16 = -32768, v.u16 = 65535;
	v.s32 = -2147483647 - 1, v.u32 = 4294967295u, v.s64 = -9223372036854775807LL - 1, v.u64 = 18446744073709551615ULL;
	v.s128 = -(((__int128)1 << 100) + 1), v.u128 = ((unsigned __int128)0x0123456789abcdefULL << 64) | 0xfedcba9876543210ULL;
	v.f32 = -1.5f, v.f64 = 0.1, v.flags[1] = true;
	v.mood = ZOO_WORST, v.stranger = (enum zoo_mood)99, v.top = ZOO_TOP, v.big = ZOO_BIG, v.big_signed = ZOO_BIG_LOW;
	v.big_stranger = (enum zoo_big_signed)-5, v.small = ZOO_SMALL_MINUS;
	PUT(fd, (__s64){ -1 }, v,
	    "{\"yes\":true,\"no\":false,\"s8\":-128,\"letter\":122,\"byte\":200,\"s16\":-32768,\"u16\":65535,"
	    "\"s32\":-2147483648,\"u32\":4294967295,\"s64\":\"-9223372036854775808\",\"u64\":\"18446744073709551615\","
	    "\"s128\":\"-1267650600228229401496703205377\",\"u128\":\"1512366075204170947332355369683137040\","
	    "\"f32\":-1.5,\"f64\":0.1,\"flags\":[false,true,false],\"mood\":\"ZOO_WORST\",\"stranger\":99,"
	    "\"top\":\"ZOO_TOP\",\"big\":\"ZOO_BIG\",\"big_signed\":\"ZOO_BIG_LOW\",\"big_stranger\":\"-5\","
	    "\"small\":\"ZOO_SMALL_MINUS\"}");
	memset(&v, 0, sizeof(v));
	v.s64 = 9007199254740993LL, v.u64 = 9007199254740993ULL, v.s128 = 1, v.small = ZOO_SMALL_A;
	v.big_signed = ZOO_BIG_HIGH;
	PUT(fd, (__s64){ 9007199254740993LL }, v,
	    "{\"yes\":false,\"no\":false,\"s8\":0,\"letter\":0,\"byte\":0,\"s16\":0,\"u16\":0,\"s32\":0,\"u32\":0,"
	    "\"s64\":\"9007199254740993\",\"u64\":\"9007199254740993\",\"s128\":\"1\",\"u128\":\"0\",\"f32\":0,\"f64\":0,"
	    "\"flags\":[false,false,false],\"mood\":\"ZOO_CALM\",\"stranger\":\"ZOO_CALM\",\"top\":\"ZOO_TOP_NONE\","
	    "\"big\":\"ZOO_BIG_NONE\",\"big_signed\":\"ZOO_BIG_HIGH\",\"big_stranger\":\"0\",\"small\":\"ZOO_SMALL_A\"}");
	map_close();
}

static void pointers(void)
{
	int fd = begin("z_pointers", "entries");
	if (fd < 0)
		return;
	struct zoo_pointers v;
	memset(&v, 0, sizeof(v));
	/* Pointers are printed as numbers. The chain is const, so its bytes are written. */
	v.any = (void *)0xffff888000001000ULL;
	v.text = (const char *)0xffffffff81000010ULL;
	v.callback = (zoo_callback)0x1234ULL;
	v.inline_callback = (void *)0xffffffffffffffffULL;
	v.forward = NULL;
	v.const_volatile = (void *)0x8000000000000000ULL;
	v.self = (void *)1;
	memcpy((char *)&v + offsetof(struct zoo_pointers, chain), &(__u32){ 77 }, 4);
	memcpy((char *)&v + offsetof(struct zoo_pointers, anonymous), (__u32[]){ 88, 99, 111 }, 12);
	PUT(fd, (__u32){ 0 }, v,
	    "{\"any\":\"0xffff888000001000\",\"text\":\"0xffffffff81000010\",\"callback\":\"0x1234\","
	    "\"inline_callback\":\"0xffffffffffffffff\",\"forward\":\"0x0\",\"const_volatile\":\"0x8000000000000000\","
	    "\"twice\":\"0x0\",\"self\":\"0x1\",\"array_pointer\":\"0x0\",\"chain\":77,"
	    "\"anonymous\":{\"id\":88,\"pair\":[99,111]}}");
	map_close();
}

static void text(void)
{
	int fd = begin("z_text", "entries");
	if (fd < 0)
		return;
	struct zoo_text v;
	struct zoo_key key;
	memset(&v, 0, sizeof(v));
	memcpy(v.plain, "plain", 5);
	memcpy(v.full, "nonul!!!", 8);
	memcpy(v.escapes, "\x1b[31m\"\\\n\t\r\b\x01\x7f/", 14);
	memcpy(v.invalid, "\xff\xfe\xc3(\xed\xa0\x80", 7);
	memcpy(v.utf8, "\xc3\xa9\xe2\x82\xac", 5);
	memcpy(v.after_nul, "ab\0cd\0e", 7);
	memcpy(v.s, "\x80\xff\x01\x7f", 4);
	memcpy(v.u, "\x80\xff\x01\x7f", 4);
	memcpy(v.two[0], "abcd", 4);
	memcpy(v.two[1], "e", 1);
	memset(&key, 0, sizeof(key));
	key.kind = 7, key.number = 0xdeadbeef;
	memcpy(key.name, "key", 3);
	PUT(fd, key, v,
	    "{\"plain\":{\"bytes\":\"706c61696e000000\"},\"full\":{\"bytes\":\"6e6f6e756c212121\"},"
	    "\"escapes\":{\"bytes\":\"1b5b33316d225c0a090d08017f2f0000\"},\"invalid\":{\"bytes\":\"fffec328eda08000\"},"
	    "\"utf8\":{\"bytes\":\"c3a9e282ac000000\"},\"after_nul\":{\"bytes\":\"6162006364006500\"},"
	    "\"empty\":{\"bytes\":\"00000000\"},\"s\":{\"bytes\":\"80ff017f\"},\"u\":[128,255,1,127],"
	    "\"two\":[{\"bytes\":\"61626364\"},{\"bytes\":\"65000000\"}]}");
	/* A key that differs only in its padding is a different key. */
	((char *)&key)[2] = 1;
	memset(&v, 0, sizeof(v));
	PUT(fd, key, v, NULL);
	map_close();
}

static void shapes(void)
{
	int fd = begin("z_packed", "entries");
	if (fd >= 0) {
		for (__u32 i = 0; i < 3; i++) {
			struct zoo_packed v = { i, 0x0102030405060708ULL, 0xfff0, 21, 4000 };
			PUT(fd, i, v,
			    i == 2 ? "{\"first\":2,\"second\":\"72623859790382856\",\"third\":65520,\"bits\":21,\"more\":4000}" : NULL);
		}
		map_close();
	}
	fd = begin("z_aligned", "entries");
	if (fd >= 0) {
		for (__u32 i = 0; i < 2; i++) {
			struct zoo_aligned v;
			memset(&v, 0, sizeof(v));
			v.first = 1, v.second = 2, v.last = 3;
			PUT(fd, i, v, "{\"first\":1,\"second\":\"2\",\"last\":3}");
		}
		map_close();
	}
	fd = begin("z_union", "entries");
	if (fd >= 0) {
		union zoo_union key = { .number = 5 }, v = { .letters = "unions!" };
		PUT(fd, key, v,
		    "{\"number\":\"9415592384228981\",\"halves\":{\"low\":1869180533,\"high\":2192238},"
		    "\"letters\":{\"bytes\":\"756e696f6e732100\"}}");
		map_close();
	}
}

static void tops(void)
{
	int fd = begin("z_vector", "entries");
	if (fd >= 0) {
		PUT(fd, (__u32){ 0 }, ((zoo_vector){ 1, -2, 3, -2147483647 - 1 }), "[1,-2,3,-2147483648]");
		PUT(fd, (__u32){ 1 }, ((zoo_vector){ 0 }), "[0,0,0,0]");
		map_close();
	}
	fd = begin("z_enum_value", "entries");
	if (fd >= 0) {
		PUT(fd, (__u32){ 0 }, (enum zoo_big_signed){ ZOO_BIG_LOW }, "\"ZOO_BIG_LOW\"");
		PUT(fd, (__u32){ 1 }, (enum zoo_big_signed){ ZOO_BIG_HIGH }, "\"ZOO_BIG_HIGH\"");
		PUT(fd, (__u32){ 2 }, (enum zoo_big_signed){ -1 }, "\"-1\"");
		map_close();
	}
	fd = begin("z_flexible", "entries");
	if (fd >= 0) {
		PUT(fd, (__u32){ 0 }, (struct zoo_flexible){ 12 }, "{\"count\":12,\"items\":[]}");
		PUT(fd, (__u32){ 1 }, (struct zoo_flexible){ 0 }, "{\"count\":0,\"items\":[]}");
		map_close();
	}
	fd = begin("z_bool", "entries");
	if (fd >= 0) {
		PUT(fd, (bool){ true }, (bool){ false }, "false");
		PUT(fd, (bool){ false }, (__u8){ 2 }, NULL); /* not a valid bool in C */
		map_close();
	}
	fd = begin("z_typedef", "entries");
	if (fd >= 0) {
		PUT(fd, (__u32){ 4000000000u }, ((__u32[]){ 1, 2, 4000000000u }), "{\"id\":1,\"pair\":[2,4000000000]}");
		map_close();
	}
}

void show_typed(void)
{
	object = object_load(&typed, NULL);
	if (!object)
		return;
	bits();
	nested();
	scalars();
	pointers();
	text();
	shapes();
	tops();
	answer_prog(object_prog(object, "z_typed_prog"), 0, true);
}

/* The bytes of a section are from libbpf's copy or mapping. The expected values are from the source globals.bpf.c. */
static void section(struct bpf_object *o, const char *suffix, const char *expect)
{
	struct bpf_map *m;
	bpf_object__for_each_map(m, o) {
		const char *name = bpf_map__name(m);
		size_t size, from = strlen(name) - strlen(suffix);
		if (strlen(name) < strlen(suffix) || strcmp(name + from, suffix))
			continue;
		const void *bytes = bpf_map__initial_value(m, &size);
		map_open(bpf_map__fd(m), "entries", NULL);
		map_entry(&(__u32){ 0 }, 4, bytes, bpf_map__value_size(m), expect);
		map_close();
		return;
	}
	answer_skip("map", suffix, "the object has no such section");
}

void show_globals(void)
{
	enum { RUNS = 37 };
	char packet[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = packet, .data_size_in = sizeof(packet), .repeat = RUNS);
	struct bpf_object *o = object_load(&globals, NULL);
	int prog = object_prog(o, "z_globals_prog");
	if (prog < 0)
		return;
	if (bpf_prog_test_run_opts(prog, &run))
		die("z_globals_prog: test run: %m");
	answer_prog(prog, RUNS, true);
	section(o, ".bss",
		"{\"runs\":\"37\",\"zero_array\":[0,0,0,0,0],\"static_zero\":0,"
		"\"empty_nested\":{\"word\":0,\"wide\":\"0\",\"named\":{\"tag\":0,\"tagged\":0}}}");
	section(o, ".data",
		"{\"answer\":42,\"negative\":\"-9000000000\",\"greeting\":{\"bytes\":\"68656c6c6f097a6f6f225c0000000000\"},"
		"\"nested\":{\"low\":1,\"high\":2,\"word\":131073,\"wide\":\"9833440827789222417\",\"left\":1144201745,\"right\":-2005440939,"
		"\"points\":[{\"x\":1,\"y\":-1},{\"x\":2,\"y\":-2},{\"x\":3,\"y\":-3}],"
		"\"matrix\":[[[1,2],[3,4],[5,6]],[[-1,-2],[-3,-4],[-5,-6]]],\"named\":{\"tag\":4,\"tagged\":16909060}},"
		"\"flexible\":{\"count\":3},\"static_small\":-7,\"big_enum\":\"ZOO_BIG\"}");
	section(o, ".rodata", "{\"limit\":123456,\"motto\":{\"bytes\":\"7175696574000000\"},\"hidden\":\"1234605616436508552\"}");
	section(o, ".data.custom",
		"{\"custom\":12648430,\"custom_packed\":{\"first\":1,\"second\":\"2\",\"third\":3,\"bits\":4,\"more\":5}}");
	section(o, ".rodata.tuned", "{\"tuned\":512}");
	section(o, ".bss.aside", "{\"aside\":\"0\"}");
}
