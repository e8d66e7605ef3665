"""What the frames of AMQP 0-9-1 are made of (section 4.2.3, and 1.7 for the class), for who writes and who reads them."""

from __future__ import annotations

from struct import Struct

#: types of frames
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
#: a frame's type, channel and size; after its payload comes one octet more
FRAME, END = Struct(">BHI"), 0xCE
#: the class of methods that messages travel by
BASIC = 60
