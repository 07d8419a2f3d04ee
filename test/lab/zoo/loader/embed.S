/* SPDX-License-Identifier: Apache-2.0 */
/* The objects, inside the loader: one file to carry into a guest. libelf wants them aligned. */
.macro object name
	.section .rodata
	.balign 16
	.globl zoo_\name\()_start, zoo_\name\()_end
zoo_\name\()_start:
	.incbin "\name\().bpf.o"
zoo_\name\()_end:
	.byte 0
.endm

object typed
object globals
object storage
object rings
object cgroup
object trace
object net
object ext
object tcpcc
object arena
object special

.section .note.GNU-stack,"",%progbits
