"""terminal.py KEYS-IN-HEX COMMAND ...: runs a command on a new terminal, types the keys after it has printed "ready", and
prints its output and its exit status."""
import os
import pty
import select
import sys
import time

SECONDS = 30

keys = bytes.fromhex(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
wrote = b""
end = time.time() + SECONDS
while time.time() < end:
    if not select.select([terminal], [], [], 0.2)[0]:
        continue
    try:
        part = os.read(terminal, 4096)
    except OSError:  # EIO: the other side is closed
        break
    if not part:
        break
    wrote += part
    if b"ready" in wrote and keys:
        os.write(terminal, keys)
        keys = b""
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.write(wrote.decode().replace("\r\n", "\n") + f"status {status}\n")
