"""A mail server for one test: prints its address, and then each mail, as lines of JSON.

Takes mail only from who signs in with the name and the password that it is given. With a
certificate and its key it speaks TLS from the first byte.
"""

import email
import email.policy
import json
import socket
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

user, password, *pem = sys.argv[1:]


def say(document):
    print(json.dumps(document), flush=True)


def signs_in(server, session, envelope, mechanism, given):
    good = given.login == user.encode() and given.password == password.encode()
    return AuthResult(success=good)


class Keep:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        say({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": {name.lower(): value for name, value in mail.items()},
            "content_type": mail.get_content_type(),
            "text": mail.get_content(),
            "raw": envelope.content.decode("ascii"),
        })
        return "250 kept"


tls = None
if pem:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*pem)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
controller = Controller(
    Keep(), hostname="127.0.0.1", port=port, ssl_context=tls,
    authenticator=signs_in, auth_required=True, auth_require_tls=False,
)
controller.start()
say({"address": f"127.0.0.1:{port}"})
threading.Event().wait()
