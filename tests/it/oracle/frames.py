# Run inside gdb: prints every frame of every thread that lies on the stack.
# Inlined functions do not, nor do those that jumped to another at their end.
import gdb

gdb.execute("set backtrace past-main on")
gdb.execute("set backtrace past-entry on")
for thread in gdb.selected_inferior().threads():
    thread.switch()
    print("thread", thread.ptid[1] or thread.ptid[0])
    frame = gdb.newest_frame()
    for _ in range(4000):
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            print("frame", hex(frame.pc()))
        try:
            older = frame.older()
        except gdb.error as error:
            print("end", error)
            break
        if older is None:
            print("end", gdb.frame_stop_reason_string(frame.unwind_stop_reason()))
            break
        frame = older
