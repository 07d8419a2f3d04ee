/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Maps with BTF that is hard to print. */
#include "zoo_bpf.h"
#include "../zoo_types.h"

#define TYPED(name, kind, key_type, value_type, max)                                                                   \
	struct {                                                                                                       \
		__uint(type, kind);                                                                                    \
		__uint(max_entries, max);                                                                              \
		__type(key, key_type);                                                                                 \
		__type(value, value_type);                                                                             \
	} name SEC(".maps")

TYPED(z_bits, BPF_MAP_TYPE_HASH, enum zoo_mood, struct zoo_bits, 8);
TYPED(z_nested, BPF_MAP_TYPE_ARRAY, __u32, struct zoo_nested, 2);
TYPED(z_scalars, BPF_MAP_TYPE_HASH, __s64, struct zoo_scalars, 8);
TYPED(z_pointers, BPF_MAP_TYPE_ARRAY, __u32, struct zoo_pointers, 1);
TYPED(z_text, BPF_MAP_TYPE_HASH, struct zoo_key, struct zoo_text, 4);
TYPED(z_packed, BPF_MAP_TYPE_ARRAY, __u32, struct zoo_packed, 3);
TYPED(z_aligned, BPF_MAP_TYPE_ARRAY, __u32, struct zoo_aligned, 2);
TYPED(z_union, BPF_MAP_TYPE_HASH, union zoo_union, union zoo_union, 4);
TYPED(z_vector, BPF_MAP_TYPE_ARRAY, __u32, zoo_vector, 2);
TYPED(z_enum_value, BPF_MAP_TYPE_ARRAY, __u32, enum zoo_big_signed, 3);
TYPED(z_percpu_struct, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct zoo_nested, 2);
TYPED(z_flexible, BPF_MAP_TYPE_ARRAY, __u32, struct zoo_flexible, 2);
TYPED(z_bool, BPF_MAP_TYPE_HASH, bool, bool, 2);
TYPED(z_typedef, BPF_MAP_TYPE_HASH, zoo_chain_t, zoo_anonymous_t, 3);

#define TOUCH(map, key_type)                                                                                           \
	do {                                                                                                           \
		key_type key = {};                                                                                     \
		if (bpf_map_lookup_elem(&map, &key))                                                                   \
			hits++;                                                                                        \
	} while (0)

/* Uses every map of this object, so that all of them are in its used_maps. */
SEC("socket")
int z_typed_prog(struct __sk_buff *skb)
{
	int hits = 0;
	struct zoo_key name_key = {};
	TOUCH(z_bits, int);
	TOUCH(z_nested, int);
	TOUCH(z_scalars, __s64);
	TOUCH(z_pointers, int);
	if (bpf_map_lookup_elem(&z_text, &name_key))
		hits++;
	TOUCH(z_packed, int);
	TOUCH(z_aligned, int);
	TOUCH(z_union, __u64);
	TOUCH(z_vector, int);
	TOUCH(z_enum_value, int);
	TOUCH(z_percpu_struct, int);
	TOUCH(z_flexible, int);
	TOUCH(z_bool, bool);
	TOUCH(z_typedef, int);
	return hits;
}
