# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The misbehaviours of the proxy: what each does, and with which commands and rings it is tested.

A command must end with status 1 or 2. If `harmless` lists the command, 0 is right, too, because the
front-end need not notice the behaviour, or copes with it.
"""

import fcntl
import os
import select
import signal
import socket
import struct
import sys
import threading
import time

import uffd
from proxy import HEADER, NEED_REPLY, REPLY, VERSION, HungUp, Message

PROBE, BENCH, MIGRATE, POSTCOPY, CRASH = COMMANDS = ('probe', 'bench', 'migrate', 'postcopy', 'crash')
RUNNING = (BENCH, MIGRATE, CRASH)  # the commands that start the proxy's rings
TABLE = {}


class Behaviour:
    """`request` and `reply` return the message to forward instead of the original, or None."""

    def __init__(self, name, commands, harmless=(), rings=('split', 'packed'), **actions):
        self.name, self.commands, self.harmless, self.rings = name, commands, harmless, rings
        self.actions = actions
        self.state = {}

    def begin(self):
        if 'begin' in self.actions:
            self.actions['begin'](self)

    def request(self, s, m):
        return self.actions['request'](s, m) if 'request' in self.actions else m

    def reply(self, s, m):
        return self.actions['reply'](s, m) if 'reply' in self.actions else m

    def tick(self, s):
        if 'tick' in self.actions:
            self.actions['tick'](s)


def add(name, commands, harmless=(), **rest):
    assert name not in TABLE, name
    TABLE[name] = Behaviour(name, commands, harmless, **rest)


def on(name, change):
    """An action for one kind of message only."""
    def action(s, m):
        if m.name != name:
            return m
        s.acted(m.name)
        return change(s, m)
    return action


def replace(m, **values):
    copy = Message(m.request, m.payload, m.fds, m.flags)
    for key, value in values.items():
        setattr(copy, key, value)
    return copy


# ---- invalid replies ----

def hang_up(_s, _m):
    raise HungUp


def cut(s, m):
    s.send(s.front, m.bytes()[:-3], m.fds)
    raise HungUp


def slowly(s, m):
    for byte in m.bytes():
        s.send(s.front, bytes([byte]))
        time.sleep(0.002)


def with_pipes(n):
    def change(_s, m):
        fds = list(m.fds)
        while len(fds) < n:
            fds += os.pipe()
        m.fds = fds
        return m
    return change


REPLIES = {
    'wrong-id': lambda s, m: replace(m, request=m.request + 1),
    'no-reply-flag': lambda s, m: replace(m, flags=VERSION),
    'wrong-version': lambda s, m: replace(m, flags=m.flags ^ 3),
    'all-flags': lambda s, m: replace(m, flags=0xffffffff),
    'enormous': lambda s, m: replace(m, size=0xffffffff),
    'too-long': lambda s, m: replace(m, payload=m.payload + b'\xff' * 40),
    'too-short': lambda s, m: replace(m, payload=m.payload[:-1]),
    'empty': lambda s, m: replace(m, payload=b''),
    'cut': cut,
    'hang-up': hang_up,
    'never': lambda s, m: None,
    'garbage': lambda s, m: s.random.randbytes(64),
    'many-fds': with_pipes(40),
}
ASKED = {  # requests with a reply, and the commands that send them
    'GET_FEATURES': COMMANDS,
    'GET_CONFIG': COMMANDS,
    'GET_VRING_BASE': (MIGRATE, POSTCOPY),
    'SET_LOG_BASE': (MIGRATE,),
    'GET_INFLIGHT_FD': (CRASH,),
}
HARMLESS = {
    ('empty', 'SET_LOG_BASE'): (MIGRATE,),  # some back-ends reply to it like this
    ('empty', 'GET_CONFIG'): (PROBE,),  # means "no config space", which probe shows
}
for _request, _commands in ASKED.items():
    for _name, _change in REPLIES.items():
        add(f'{_name}:{_request}', _commands, reply=on(_request, _change),
            harmless=HARMLESS.get((_name, _request), ()))
for _request, _commands in ASKED.items():
    add(f'slowly:{_request}', _commands[:3], harmless=COMMANDS,
        reply=on(_request, slowly) if _request != 'GET_INFLIGHT_FD' else on('GET_FEATURES', slowly))
add('twice:GET_FEATURES', COMMANDS, reply=on('GET_FEATURES', lambda s, m: [m, m]))
add('twice:GET_CONFIG', COMMANDS, reply=on('GET_CONFIG', lambda s, m: [m, m]),
    harmless=(PROBE, BENCH, CRASH))  # no later request has a reply
add('unasked:SET_OWNER', COMMANDS,
    request=on('SET_OWNER', lambda s, m: (s.send(s.front, Message(3, bytes(8), (), VERSION | REPLY)
                                                 .bytes()), m)[1]))

# ---- hanging up at a message ----

for _request, _commands in {
        'SET_OWNER': COMMANDS, 'SET_FEATURES': RUNNING, 'ADD_MEM_REG': RUNNING,
        'SET_VRING_NUM': RUNNING, 'SET_VRING_ADDR': RUNNING, 'SET_VRING_KICK': RUNNING,
        'SET_VRING_CALL': RUNNING, 'SET_VRING_ENABLE': RUNNING, 'SET_LOG_BASE': (MIGRATE,),
        'POSTCOPY_LISTEN': (POSTCOPY,), 'POSTCOPY_END': (POSTCOPY,),
        'SET_INFLIGHT_FD': (CRASH,)}.items():
    add(f'hang-up-at:{_request}', _commands, request=on(_request, hang_up))
    add(f'swallow:{_request}', _commands, request=on(_request, lambda s, m: None),
        harmless=(PROBE, BENCH, MIGRATE, POSTCOPY, CRASH))

# ---- false replies ----


def u64(value):
    return lambda s, m: replace(m, payload=struct.pack('<Q', value))


def flip(name, mask):
    """Different bits from the second reply on."""
    def action(s, m):
        if m.name != name:
            return m
        if s.counts.get(name, 0) < 2:
            s.acted('first')
            return m
        return replace(m, payload=struct.pack('<Q', struct.unpack('<Q', m.payload)[0] ^ mask))
    return action


def config(**fields):
    """GET_CONFIG with other numbers: name -> (offset, format, value)."""
    places = {'capacity': (0, '<Q'), 'size_max': (8, '<I'), 'seg_max': (12, '<I'),
              'blk_size': (20, '<I'), 'queues': (34, '<H')}

    def change(_s, m):
        offset, size = struct.unpack_from('<II', m.payload)
        data = bytearray(m.payload)
        for name, value in fields.items():
            at, form = places[name]
            if offset <= at and at + struct.calcsize(form) <= offset + size:
                struct.pack_into(form, data, 12 + at - offset, value)
        return replace(m, payload=bytes(data))
    return change


def without(bits):
    return lambda s, m: replace(m, payload=struct.pack('<Q', struct.unpack('<Q', m.payload)[0] & ~bits))


def config_that_changes(s, m):
    s.behaviour.state['n'] = n = s.behaviour.state.get('n', 0) + 1
    return config(capacity=1000 * n)(s, m)


add('features-none', COMMANDS, harmless=(PROBE,), reply=on('GET_FEATURES', u64(0)))
add('features-all', COMMANDS, harmless=COMMANDS, reply=on('GET_FEATURES', u64((1 << 64) - 1)))
add('features-change', COMMANDS, harmless=COMMANDS, reply=flip('GET_FEATURES', 1 << 32))
add('protocol-features-none', COMMANDS, harmless=(PROBE, BENCH, CRASH),
    reply=on('GET_PROTOCOL_FEATURES', u64(0)))
add('protocol-features-all', COMMANDS, harmless=COMMANDS,
    reply=on('GET_PROTOCOL_FEATURES', u64((1 << 64) - 1)))
add('protocol-features-no-inflight', COMMANDS, harmless=(PROBE, BENCH, MIGRATE, POSTCOPY),
    reply=on('GET_PROTOCOL_FEATURES', without(1 << 12)))
add('capacity-0', (BENCH, MIGRATE, CRASH), reply=on('GET_CONFIG', config(capacity=0)))
add('capacity-huge', COMMANDS, harmless=COMMANDS,
    reply=on('GET_CONFIG', config(capacity=(1 << 64) - 1)))
add('capacity-changes', (MIGRATE, CRASH), harmless=(CRASH,), reply=on('GET_CONFIG', config_that_changes))
add('block-size-0', COMMANDS, harmless=COMMANDS, reply=on('GET_CONFIG', config(blk_size=0)))
add('block-size-odd', COMMANDS, harmless=COMMANDS, reply=on('GET_CONFIG', config(blk_size=0xfffffff1)))
add('segments-0', COMMANDS, harmless=COMMANDS, reply=on('GET_CONFIG', config(seg_max=0, size_max=0)))
add('queues-0', COMMANDS, harmless=COMMANDS, reply=on('GET_CONFIG', config(queues=0)))
add('queue-num-0', COMMANDS, harmless=COMMANDS, reply=on('GET_QUEUE_NUM', u64(0)))
add('queue-num-huge', COMMANDS, harmless=COMMANDS, reply=on('GET_QUEUE_NUM', u64((1 << 64) - 1)))
add('slots-0', COMMANDS, harmless=COMMANDS, reply=on('GET_MAX_MEM_SLOTS', u64(0)))
add('slots-huge', COMMANDS, harmless=COMMANDS, reply=on('GET_MAX_MEM_SLOTS', u64((1 << 64) - 1)))
add('config-other-size', COMMANDS, reply=on('GET_CONFIG', lambda s, m: replace(
    m, payload=m.payload[:4] + struct.pack('<I', 4096) + m.payload[8:])))
add('config-refused', COMMANDS, harmless=(PROBE,), reply=on('GET_CONFIG', lambda s, m: replace(m, payload=b'')))
add('base-of-another-ring', (MIGRATE, POSTCOPY), reply=on('GET_VRING_BASE', lambda s, m: replace(
    m, payload=struct.pack('<I', 77) + m.payload[4:])))
add('base-too-far', (MIGRATE, POSTCOPY), reply=on('GET_VRING_BASE', lambda s, m: replace(
    m, payload=m.payload[:4] + struct.pack('<I', 0xdeadbeef))))
add('base-behind', (MIGRATE,), reply=on('GET_VRING_BASE', lambda s, m: replace(
    m, payload=m.payload[:4] + struct.pack('<I', struct.unpack('<I', m.payload[4:])[0] ^ 0x4003))))


def refuse(s, m):
    """Acknowledge every request with NEED_REPLY as failed."""
    if m.flags & REPLY and m.name in ('SET_MEM_TABLE', 'SET_VRING_KICK', 'SET_FEATURES', 'ADD_MEM_REG'):
        s.acted(m.name)
        return replace(m, payload=struct.pack('<Q', 1))
    return m


add('refuses-everything', (BENCH, MIGRATE, CRASH), reply=refuse)

# ---- inflight regions ----


def inflight(change):
    def action(_s, m):
        numbers = list(struct.unpack('<QQHHI', m.payload))
        fds = change(numbers, list(m.fds))
        m.fds = m.fds if fds is None else fds
        return replace(m, payload=struct.pack('<QQHHI', *numbers))
    return on('GET_INFLIGHT_FD', action)


def number(i, value):
    def change(numbers, _fds):
        numbers[i] = value
    return inflight(change)


def truncated_later(s, m):
    s.behaviour.state['fd'] = os.memfd_create('inflight')
    os.ftruncate(s.behaviour.state['fd'], 1 << 20)
    m.fds = [os.dup(s.behaviour.state['fd'])]
    return m


def truncate_now(s):
    fd = s.behaviour.state.get('fd')
    if fd is not None and s.is_running:
        os.ftruncate(fd, 0)


add('inflight-size-0', (CRASH,), reply=number(0, 0), harmless=(CRASH,))
add('inflight-too-small', (CRASH,), reply=number(0, 16))
add('inflight-enormous', (CRASH,), reply=number(0, 1 << 62))
add('inflight-offset', (CRASH,), reply=number(1, (1 << 64) - 4096))
add('inflight-other-queues', (CRASH,), reply=number(2, 500))
add('inflight-other-size', (CRASH,), reply=number(3, 1))
add('inflight-no-fd', (CRASH,), reply=inflight(lambda n, fds: []))
add('inflight-pipe', (CRASH,), reply=inflight(lambda n, fds: [os.pipe()[0]]))
add('inflight-eventfd', (CRASH,), reply=inflight(lambda n, fds: [os.eventfd(0)]))
add('inflight-directory', (CRASH,), reply=inflight(lambda n, fds: [os.open('/', os.O_RDONLY)]))
add('inflight-truncated', (CRASH,), reply=on('GET_INFLIGHT_FD', truncated_later), tick=truncate_now)

# ---- shared memory, eventfds, the log ----


def when_running(act, after=0.05, every=False):
    """An action while rings run: once for each start, or again and again."""
    def tick(s):
        if not s.is_running or time.monotonic() - s.since < after or not s.regions:
            return
        if every or s.behaviour.state.get('done') != s.since:
            s.behaviour.state['done'] = s.since
            s.acted()
            act(s)
    return tick


def each_region(act):
    def do(s):
        for region in s.regions:
            try:
                act(region.fd)
            except OSError:
                pass
    return do


def eventfds(act):
    def do(s):
        for ring in s.rings.values():
            for fd in (ring.kick, ring.call):
                if fd is not None:
                    act(fd)
    return do


def blocking(fd):
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)


def fill(fd):
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)
    try:
        os.read(fd, 8)
    except OSError:
        pass
    try:
        os.write(fd, struct.pack('<Q', (1 << 64) - 2))
    except OSError:
        pass
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)


def flood(s):
    for ring in s.rings.values():
        if ring.call is not None:
            for _ in range(5000):
                os.write(ring.call, struct.pack('<Q', 1))


def truncate_log(s):
    if s.log is not None:
        try:
            os.ftruncate(s.log, 0)
        except OSError:
            pass


add('truncates-memory', RUNNING, harmless=RUNNING,  # the memory is sealed
    tick=when_running(each_region(lambda fd: os.ftruncate(fd, 0))))
add('grows-memory', RUNNING, harmless=RUNNING,
    tick=when_running(each_region(lambda fd: os.ftruncate(fd, 1 << 40))))
add('truncates-log', (MIGRATE,), harmless=(MIGRATE,), tick=when_running(truncate_log, every=True))
add('eventfds-blocking', RUNNING, harmless=RUNNING, tick=when_running(eventfds(blocking), 0, True))
add('eventfds-filled', RUNNING, harmless=RUNNING, tick=when_running(eventfds(fill), 0, True))
add('call-flood', RUNNING, harmless=RUNNING, tick=when_running(flood, 0, True))
add('kick-swallowed', RUNNING, harmless=(MIGRATE,),  # other messages make the disk look
    request=on('SET_VRING_KICK', lambda s, m: replace(m, fds=[os.eventfd(0)])))
add('call-swallowed', RUNNING, harmless=RUNNING,  # a front-end that polls the ring needs no calls
    request=on('SET_VRING_CALL', lambda s, m: replace(m, fds=[os.eventfd(0)])))
add('kick-drained', RUNNING, harmless=RUNNING,
    tick=when_running(eventfds(lambda fd: select.select([fd], [], [], 0)[0] and os.read(fd, 8)), 0, True))

# ---- rings ----


def split_only(act):
    def do(s):
        ring = s.first_ring()
        used = s.at(ring.used, 6 + 8 * ring.num)
        if used is not None and not s.is_packed:
            act(s, ring, used)
    return do


def packed_only(act):
    def do(s):
        ring = s.first_ring()
        desc = s.at(ring.desc, 16 * ring.num)
        if desc is not None and s.is_packed:
            act(s, ring, desc)
    return do


def used_index(step):
    def act(_s, ring, used):
        index = struct.unpack_from('<H', used, 2)[0]
        struct.pack_into('<H', used, 2, (index + step(ring)) & 0xffff)
    return split_only(act)


def used_element(ident, length):
    """A used element for no request."""
    def act(_s, ring, used):
        index = struct.unpack_from('<H', used, 2)[0]
        struct.pack_into('<II', used, 4 + 8 * (index % ring.num), ident, length)
        struct.pack_into('<H', used, 2, (index + 1) & 0xffff)
    return split_only(act)


def scribble(part):
    def act(s):
        ring = s.first_ring()
        size = {'desc': 16 * ring.num, 'used': 6 + 8 * ring.num, 'avail': 6 + 2 * ring.num}[part]
        view = s.at(getattr(ring, part), 4 if s.is_packed and part != 'desc' else size)
        if view is not None:
            view[:] = s.random.randbytes(len(view))
    return act


def descriptors(ident, length, flags):
    """All descriptors of a packed ring are marked used."""
    def act(_s, ring, desc):
        for i in range(ring.num):
            struct.pack_into('<IHH', desc, 16 * i + 8, length, ident, flags)
    return packed_only(act)


def write_outside(s):
    """Write outside of all requests, without marking the page."""
    region = max(s.regions, key=lambda r: r.size)
    for _ in range(64):
        at = s.random.randrange(0, region.size // 8) * 8
        region.view[at:at + 8] = s.random.randbytes(8)


def without_kicks(_s, m):
    """Stop the kicks of the honest disk, so that it does not overwrite the proxy's writes."""
    return replace(m, fds=[os.eventfd(0)]) if m.name == 'SET_VRING_KICK' else m


SPLIT = {'rings': ('split',), 'request': without_kicks}
PACKED = {'rings': ('packed',), 'request': without_kicks}
add('used-index-jumps', RUNNING, tick=when_running(used_index(lambda r: 3 * r.num), every=True), **SPLIT)
add('used-index-backwards', RUNNING, tick=when_running(used_index(lambda r: -5), every=True), **SPLIT)
add('used-index-too-far', RUNNING, tick=when_running(used_index(lambda r: r.num), every=True), **SPLIT)
add('used-id-out-of-range', RUNNING, tick=when_running(used_element(0xffffffff, 1), every=True), **SPLIT)
add('used-id-in-range', RUNNING, tick=when_running(used_element(0, 1), every=True), **SPLIT)
add('used-length-too-large', RUNNING, tick=when_running(used_element(0, 0xffffffff), every=True), **SPLIT)
add('packed-id-out-of-range', RUNNING, tick=when_running(descriptors(0xffff, 1, 0x8080), every=True),
    **PACKED)
add('packed-length-too-large', RUNNING,
    tick=when_running(descriptors(0, 0xffffffff, 0x8080), every=True), **PACKED)
add('packed-flags-all', RUNNING, tick=when_running(descriptors(0, 1, 0xffff), every=True), **PACKED)
add('packed-flags-none', RUNNING, tick=when_running(descriptors(0, 1, 0), every=True), **PACKED)
add('scribbles-over-descriptors', RUNNING, harmless=RUNNING, tick=when_running(scribble('desc'), every=True))
add('scribbles-over-used', RUNNING, tick=when_running(scribble('used'), every=True), harmless=RUNNING)
add('scribbles-over-avail', RUNNING, tick=when_running(scribble('avail'), every=True), harmless=RUNNING)
add('writes-outside', (MIGRATE,), tick=when_running(write_outside, every=True))

# ---- the channel of the back-end ----


def on_channel(data, every=True):
    def do(s):
        try:
            while s.channel is not None:
                s.channel.send(data)
                if not every:
                    break
        except BlockingIOError:
            pass
        except OSError:
            s.channel = None
    return do


def channel_request(request, payload=b'', flags=VERSION, size=None):
    return HEADER.pack(request, flags, len(payload) if size is None else size) + payload


def channel(name, data, every=True, harmless=(MIGRATE, POSTCOPY)):
    def tick(s):
        if s.channel is not None:
            s.acted()
            on_channel(data, every)(s)
    add(name, (MIGRATE, POSTCOPY), harmless=harmless, tick=tick)


channel('channel-flood', channel_request(2) * 50)
channel('channel-flood-unread', channel_request(2, flags=VERSION | NEED_REPLY) * 50)
channel('channel-enormous', channel_request(2, size=0xffffffff))
channel('channel-unknown', channel_request(4711, bytes(64)) * 20)
channel('channel-cut', channel_request(2, bytes(64))[:20], every=False)
channel('channel-garbage', bytes(range(256)) * 16)

# ---- postcopy: the proxy is the destination ----


def advise(make):
    def action(_s, m):
        m.fds = make(m)
        return m
    return on('POSTCOPY_ADVISE', action)


def bases(change):
    """Change the addresses in the reply to SET_MEM_TABLE or ADD_MEM_REG."""
    def action(s, m):
        if m.name not in ('SET_MEM_TABLE', 'ADD_MEM_REG') or len(m.payload) < 40:
            return m
        s.acted(m.name)
        data = bytearray(m.payload)
        for i in range((len(data) - 8) // 32):
            at = s.behaviour.state['n'] = s.behaviour.state.get('n', 0) + 1
            struct.pack_into('<Q', data, 8 + 32 * i + 16, change(at) & 0xffffffffffffffff)
        return replace(m, payload=bytes(data))
    return action


def own_uffd(features, act):
    """A userfaultfd of the proxy's own, over its own mappings; `act` makes it busy."""
    def reply(s, m):
        if m.name == 'POSTCOPY_ADVISE':
            s.acted(m.name)
            s.behaviour.state['uffd'] = u = uffd.Uffd(features)
            m.fds = [os.dup(u.fd)]
        if m.name == 'ADD_MEM_REG' and features & uffd.MINOR_SHMEM and len(m.payload) == 40:
            gpa, size, _, offset = struct.unpack_from('<QQQQ', m.payload, 8)
            fd = next(region.fd for region in s.regions if region.gpa == gpa)
            base = s.behaviour.state['uffd'].share(fd, size, offset)
            return replace(m, payload=m.payload[:24] + struct.pack('<Q', base) + m.payload[32:])
        return m

    def tick(s):
        u = s.behaviour.state.get('uffd')
        if u is not None and s.counts.get('SET_VRING_KICK') and not u.is_busy:
            u.is_busy = True
            act(u)
    return {'reply': reply, 'tick': tick}


def stolen(s, m):
    """The proxy reads the faults of the back-end and does not pass them on."""
    if m.name == 'POSTCOPY_ADVISE' and m.fds:
        s.acted(m.name)
        fd = os.dup(m.fds[0])
        threading.Thread(target=uffd.swallow, args=(fd,), daemon=True).start()
    return m


def made_blocking(s, m):
    if m.name == 'POSTCOPY_ADVISE' and m.fds:
        s.acted(m.name)
        fd = os.dup(m.fds[0])
        threading.Thread(target=uffd.keep_blocking, args=(fd,), daemon=True).start()
    return m


DEST = (POSTCOPY,)
add('advise-no-fd', DEST, reply=advise(lambda m: []))
add('advise-pipe', DEST, reply=advise(lambda m: [os.pipe()[0]]))
add('advise-eventfd', DEST, reply=advise(lambda m: [os.eventfd(0)]))
add('advise-memfd', DEST, reply=advise(lambda m: [os.memfd_create('x')]))
add('advise-null', DEST, reply=advise(lambda m: [os.open('/dev/null', os.O_RDWR)]))
add('advise-socket', DEST, reply=advise(lambda m: [socket.socketpair()[0].detach()]))
add('advise-two-fds', DEST, reply=advise(lambda m: [*m.fds, os.eventfd(0)]))
add('advise-uffd-unready', DEST, reply=advise(lambda m: [uffd.raw()]))
add('advise-never', DEST, reply=on('POSTCOPY_ADVISE', lambda s, m: None))
add('bases-zero', DEST, reply=bases(lambda i: 0))
# No fault has a false address if every page is present before the back-end touches it.
add('bases-same', DEST, harmless=DEST, reply=bases(lambda i: 1 << 40))
add('bases-wrap', DEST, reply=bases(lambda i: -4096))
add('bases-elsewhere', DEST, harmless=DEST, reply=bases(lambda i: (i + 1) << 44))
add('bases-never', DEST, reply=on('ADD_MEM_REG', lambda s, m: None))
add('listen-refused', DEST, reply=on('POSTCOPY_LISTEN', u64(1)))
add('end-never', DEST, reply=on('POSTCOPY_END', lambda s, m: None))
add('end-refused', DEST, reply=on('POSTCOPY_END', u64(1)))
add('uffd-stolen', DEST, harmless=DEST, reply=stolen)
add('uffd-blocking', DEST, harmless=DEST, reply=made_blocking)
add('uffd-stray', DEST, **own_uffd(0, lambda u: u.touch_elsewhere()))
add('uffd-event-remove', DEST, **own_uffd(uffd.EVENT_REMOVE, lambda u: u.change('remove')))
add('uffd-event-unmap', DEST, **own_uffd(uffd.EVENT_UNMAP, lambda u: u.change('unmap')))
for _kind, _event in {'remove': uffd.EVENT_REMOVE, 'unmap': uffd.EVENT_UNMAP, 'fork': uffd.EVENT_FORK}.items():
    add(f'uffd-minor-event-{_kind}', DEST, harmless=DEST,
        **own_uffd(uffd.MINOR_SHMEM | _event, lambda u, kind=_kind: u.change(kind)))
add('uffd-event-fork', DEST, **own_uffd(uffd.EVENT_FORK, lambda u: u.change('fork')))

# ---- the process ----


def stop(_s, _m):
    os.kill(os.getpid(), signal.SIGSTOP)


def leave(_s, _m):
    os._exit(3)


def fork_and_leave(s, _m):
    """A child process keeps every descriptor open and reads nothing."""
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)
    os._exit(0)


def deaf(_s, _m):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def chatter(b):
    def write():
        while True:
            sys.stderr.buffer.write(os.urandom(4096) + b'\n' + b'x\n' * 32768)
    threading.Thread(target=write, daemon=True).start()


def never(b):
    with open(os.environ.get('HOSTILE_LOG', os.devnull), 'a', encoding='utf-8') as f:
        f.write(b.name)
    time.sleep(1000)


for _request, _commands in {'GET_FEATURES': COMMANDS, 'SET_VRING_KICK': RUNNING,
                            'GET_VRING_BASE': (MIGRATE, POSTCOPY)}.items():
    add(f'stops:{_request}', _commands, request=on(_request, stop))
    add(f'leaves:{_request}', _commands, request=on(_request, leave))
    add(f'forks-and-leaves:{_request}', _commands, request=on(_request, fork_and_leave))
    add(f'deaf:{_request}', _commands, request=on(_request, deaf))
add('never-listens', COMMANDS, begin=never)
add('chatters', COMMANDS, harmless=COMMANDS, begin=chatter,
    request=on('GET_FEATURES', lambda s, m: m))
