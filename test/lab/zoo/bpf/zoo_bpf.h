/* SPDX-License-Identifier: Apache-2.0 */
/*
* Included by every object of the zoo. There is no vmlinux.h: an object declares the few members of kernel types that it
 * uses, and CO-RE relocates them, so one object works on every kernel and architecture.
 */
#ifndef ZOO_BPF_H
#define ZOO_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#define KERNEL_TYPE __attribute__((preserve_access_index))

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#endif
