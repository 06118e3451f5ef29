"""One side of a libtorrent transfer: `seed` or `leech` TORRENT FOLDER PORT [PEER_PORT].

Settings are those that were found fastest on loopback: no uTP, no rate limits, long queues, plain text.
Prints a line when it is ready; a leecher ends when it has every piece.
"""

import sys
import time

import libtorrent as lt

role, torrent, folder, port = sys.argv[1:5]
session = lt.session({
    "listen_interfaces": "127.0.0.1:" + port,
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "in_enc_policy": 2,
    "out_enc_policy": 2,
    "allow_multiple_connections_per_ip": True,
    "max_out_request_queue": 3000,
    "max_allowed_in_request_queue": 4000,
    "request_queue_time": 1,
    "send_buffer_watermark": 8 << 20,
    "send_buffer_low_watermark": 1 << 20,
    "max_queued_disk_bytes": 64 << 20,
    "unchoke_slots_limit": -1,
})
handle = session.add_torrent({"ti": lt.torrent_info(torrent), "save_path": folder})
if role == "seed":
    while not handle.status().is_seeding:
        time.sleep(0.05)
    print("ready", flush=True)
    while True:
        time.sleep(60)
handle.connect_peer(("127.0.0.1", int(sys.argv[5])))
while not handle.status().is_seeding:
    time.sleep(0.01)
