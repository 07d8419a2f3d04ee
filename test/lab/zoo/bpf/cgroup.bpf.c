/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Programs attached to a cgroup, and the two deprecated kinds of storage that each attachment creates. */
#include "zoo_bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
	__type(key, struct bpf_cgroup_storage_key);
	__type(value, __u64);
} z_cg_storage SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE);
	__type(key, __u64);
	__type(value, __u32);
} z_cg_percpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__uint(value_size, 4);
} z_cgroup_array SEC(".maps");

SEC("cgroup_skb/egress")
int z_cg_egress(struct __sk_buff *skb)
{
	__u64 *shared = bpf_get_local_storage(&z_cg_storage, 0);
	__u32 *own = bpf_get_local_storage(&z_cg_percpu, 0);
	/* Only reads the storage, so the loader's values do not change. */
	return *shared == 1 && *own == 1 ? 0 : 1;
}

SEC("cgroup_skb/ingress")
int z_cg_ingress(struct __sk_buff *skb)
{
	return 1;
}

SEC("cgroup/sock_create")
int z_cg_sock(struct bpf_sock *sk)
{
	return 1;
}

SEC("cgroup/connect4")
int z_cg_connect4(struct bpf_sock_addr *addr)
{
	return 1;
}

SEC("cgroup/sysctl")
int z_cg_sysctl(struct bpf_sysctl *ctx)
{
	return 1;
}

SEC("cgroup/getsockopt")
int z_cg_getsockopt(struct bpf_sockopt *ctx)
{
	return 1;
}

SEC("cgroup/dev")
int z_cg_device(struct bpf_cgroup_dev_ctx *ctx)
{
	return 1;
}

SEC("sockops")
int z_sockops(struct bpf_sock_ops *ops)
{
	return 1;
}
