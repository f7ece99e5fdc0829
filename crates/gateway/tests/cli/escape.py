"""Tries to get out of `clawgate run --confine`, or shows that each way is open without it.

Reads what there is to reach from JSON in argv[1], tries every way, and writes a line of JSON for
each: its name, whether it went through, and what came of it. Standard library alone.
"""

import ctypes
import errno
import fcntl
import json
import os
import socket
import struct
import sys
import termios
import time

there = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
ways = []


def way(function):
    ways.append(function)
    return function


def called(result):
    """The result of a call of the C library, or its error."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def read(path):
    with open(path, "rb") as file:
        return file.read(4096)


@way
def tcp():
    with socket.create_connection(("127.0.0.1", there["tcp"]), 5) as s:
        return s.recv(16).decode()


@way
def tcp_to_this_machines_own_address():
    with socket.create_connection((there["address"], there["tcp"]), 5) as s:
        return s.recv(16).decode()


@way
def tcp_ipv6():
    with socket.create_connection(("::1", there["tcp6"]), 5) as s:
        return s.recv(16).decode()


def asked_by_udp(port, question):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.connect(("127.0.0.1", port))
        s.send(question)
        return s.recv(512).decode(errors="replace")


@way
def udp():
    return asked_by_udp(there["udp"], b"anybody")


@way
def dns():
    question = struct.pack(">6H", 7, 256, 1, 0, 0, 0) + b"\x04data\x05theft\x00" + struct.pack(">2H", 1, 1)
    return asked_by_udp(there["udp"], question)


@way
def route_outwards():
    # Sends nothing: the kernel looks for a way and finds one or not.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((there["elsewhere"], 53))
        return s.getsockname()[0]


@way
def raw():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


@way
def packet():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)).close()


@way
def vsock():
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()


@way
def netlink_audit():
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9).close()


@way
def kernel_crypto_socket():
    socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).close()


@way
def other_interfaces():
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    assert names, "loopback alone"
    return names


@way
def unix_socket_by_path():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(there["unix"])
        return s.recv(16).decode()


@way
def unix_socket_by_link():
    os.symlink(there["unix"], "leads-out.sock")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("leads-out.sock")
        return s.recv(16).decode()


@way
def unix_socket_abstract():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("\0" + there["abstract"])
        return s.recv(16).decode()


@way
def secret_in_home():
    return read(there["secret"]).decode()


@way
def secret_by_link():
    os.symlink(there["secret"], "leads-out")
    return read("leads-out").decode()


@way
def secret_by_hard_link():
    os.link(there["secret"], "same-file")
    return read("same-file").decode()


@way
def secret_by_dots():
    return read(os.path.relpath(there["secret"])).decode()


@way
def shadow():
    return read("/etc/shadow").decode()[:4]


@way
def private_keys_of_the_machine():
    return os.listdir("/etc/ssl/private")


@way
def environment_of_another_process():
    text = read(f"/proc/{there['pid']}/environ").decode()
    assert there["in_environment"] in text, "another process"
    return "read"


@way
def root_of_the_first_process():
    return os.listdir("/proc/1/root" + os.path.dirname(there["secret"]))


@way
def working_folder_of_another_process():
    return read(f"/proc/{there['pid']}/cwd/{os.path.basename(there['secret'])}").decode()


@way
def inherited_descriptor():
    os.lseek(9, 0, os.SEEK_SET)
    return os.read(9, 64).decode()


@way
def folder_above_an_inherited_one():
    descriptor = os.open(".", os.O_RDONLY)
    os.close(descriptor)
    return os.open(os.path.basename(there["secret"]), os.O_RDONLY, dir_fd=8)


@way
def signal_to_another_process():
    os.kill(there["pid"], 0)


@way
def ptrace_of_another_process():
    # PTRACE_SEIZE, which does not stop it; it ends with this program.
    called(libc.ptrace(0x4206, there["pid"], None, None))


@way
def memory_of_another_process():
    return os.open(f"/proc/{there['pid']}/mem", os.O_RDONLY)


def in_a_child(action):
    """What changes the process that does it is tried in a child."""
    to_read, to_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(to_write, b"done " + str(action()).encode())
        except BaseException as error:
            os.write(to_write, str(error).encode())
        os._exit(0)
    os.close(to_write)
    os.waitpid(pid, 0)
    with os.fdopen(to_read) as answer:
        text = answer.read()
    assert text.startswith("done "), text
    return text


@way
def user_namespace():
    return in_a_child(lambda: called(libc.unshare(0x10000000)))


@way
def mount():
    target = os.path.abspath("mounted")
    os.makedirs(target, exist_ok=True)

    def action():
        # Those who are not root need a namespace for it.
        libc.unshare(0x10000000 | 0x00020000)
        called(libc.mount(b"x", target.encode(), b"tmpfs", 0, None))

    return in_a_child(action)


@way
def writable_again():
    # What is read only is mounted so: MS_REMOUNT|MS_BIND.
    def action():
        if os.geteuid() != 0:
            libc.unshare(0x10000000 | 0x00020000)
        else:
            libc.unshare(0x00020000)
        called(libc.mount(b"none", b"/", None, 0x1000 | 0x40000, None))
        called(libc.mount(None, b"/", None, 32 | 0x1000, None))

    return in_a_child(action)


@way
def write_outside():
    # The file is there; one of the same name may be made in a private folder.
    with open(there["outside"], "r+") as file:
        return file.write("x")


@way
def change_the_mode_of_a_granted_file():
    os.chmod(there["readable"], 0o644)


@way
def write_a_granted_file():
    with open(there["readable"], "a") as file:
        return file.write("x")


@way
def setting_of_the_kernel():
    return os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)


@way
def capabilities():
    lines = read("/proc/self/status").decode().splitlines()
    have = [line for line in lines if line.startswith("Cap") and int(line.split()[1], 16)]
    assert have, "none"
    return have


@way
def new_privileges():
    lines = read("/proc/self/status").decode().splitlines()
    assert "NoNewPrivs:\t1" not in lines, "none"


@way
def keyring():
    # KEYCTL_GET_KEYRING_ID of the session.
    numbers = {"x86_64": 250, "aarch64": 219}
    return called(libc.syscall(numbers[os.uname().machine], 0, -3, 1))


@way
def io_uring():
    parameters = ctypes.create_string_buffer(120)
    os.close(called(libc.syscall(425, 1, parameters)))


@way
def typing_into_the_terminal():
    # Of a terminal of our own it would be allowed, were it not for the filter: ENOTTY and EIO say
    # that the call itself went through.
    try:
        fcntl.ioctl(0, termios.TIOCSTI, b"x")
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EIO, errno.EINVAL):
            raise
        return "asked"


for attempt in ways:
    try:
        came = attempt()
        through = True
    except BaseException as error:
        came = f"{type(error).__name__}: {error}"
        through = False
    print("tried " + json.dumps([attempt.__name__, through, str(came)[:200]]), flush=True)

# A child that leaves the session, and its own parent, and lives on to write a file.
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        # It has nothing of ours, so that nobody waits for it.
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        with open("detached", "w") as file:
            file.write(str(os.getpid()))
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("detached.sock")
            s.listen(1)
            s.accept()
        with open("survived", "w") as file:
            file.write("it did")
    os._exit(0)
os.wait()
while not os.path.exists("detached.sock"):
    time.sleep(0.01)
print("done", flush=True)
