"""The text of a URL, which addresses are public, and which hosts a policy allows."""

from ipaddress import ip_address

import pytest

from glmflash.errors import FetchError, ParameterError
from glmflash.media import InputPolicy, UrlPolicy
from glmflash.media.fetch.address import Address, parse
from glmflash.media.fetch.policy import check
from glmflash.media.fetch.public import is_public


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://example.com", Address("https", "example.com", 443, "/")),
        ("HTTPS://EXAMPLE.com/A", Address("https", "example.com", 443, "/A")),
        ("https://example.com?x=1", Address("https", "example.com", 443, "/?x=1")),
        ("http://a-1.b.example.com:8080/x", Address("http", "a-1.b.example.com", 8080, "/x")),
        ("https://a.com/a%20b/~c?d=[1]&e=@:8", Address("https", "a.com", 443, "/a%20b/~c?d=[1]&e=@:8")),
        ("https://xn--mnchen-3ya.de/", Address("https", "xn--mnchen-3ya.de", 443, "/")),
        ("https://example.xn--p1ai/", Address("https", "example.xn--p1ai", 443, "/")),
        ("https://1.1.1.1/", Address("https", "1.1.1.1", 443, "/")),
        ("https://[2606:4700:0:0::1111]:443/", Address("https", "2606:4700::1111", 443, "/")),
    ],
)  # fmt: skip
def test_what_is_read(url, address):
    assert parse(url) == address


def test_hosts_as_a_header_has_them():
    assert parse("http://example.com:80/").authority == "example.com"
    assert parse("https://example.com:80/").authority == "example.com:80"
    assert parse("https://[2606:4700::1]:8443/").authority == "[2606:4700::1]:8443"


REFUSED = (
    "", "https:", "https://", "https:///x", "//example.com/", "example.com", "/a", "ftp://example.com/",
    "https:/example.com", "https:\\\\example.com", "https://example.com\\@1.1.1.1/", " https://example.com",
    "https://example.com/a b", "https://example.com/\tx", "https://exam\nple.com/", "https://example.com/\r\n",
    "https://example.com/\x7f", "https://example.com/\0", "https://example.com/é", "https://münchen.de/",
    "https://①.①.①.①/", "https://example。com/", "https://ｅxample.com/",
    "https://me@example.com/", "https://me:pw@example.com/", "https://@example.com/", "https://:@example.com/",
    "https://example.com#@1.1.1.1/", "https://example.com/#x",
    "https://example.com./", "https://.example.com/", "https://a..example.com/", "https://-a.example.com/",
    "https://a-.example.com/", "https://a_b.example.com/", "https://example.com%2f@1.1.1.1/",
    "https://%65xample.com/", "https://example/", "https://localhost/", "https://a.localhost/", "https://a.local/",
    "https://metadata.google.internal/", "https://1.168.192.in-addr.arpa/", "https://a.test/", "https://a.onion/",
    f"https://{'a' * 64}.com/", f"https://{'a.' * 126}com/", "https://example.com/" + "a" * 8192,
    "https://example.com:/", "https://example.com:0/", "https://example.com:080/", "https://example.com:65536/",
    "https://example.com:99999999999/", "https://example.com:44a/", "https://example.com:443:443/",
    "https://example.com:+443/", "https://example.com:-1/", "https://example.com:４４３/",
    "https://0x7f000001/", "https://0x7f.1/", "https://2130706433/", "https://0177.0.0.1/", "https://127.1/",
    "https://1.1.1/", "https://1.1.1.1.1/", "https://01.1.1.1/", "https://1.1.1.256/", "https://1.1.1.1./",
    "https://1.1.1.0x1/", "https://a.1/", "https://a.0x7f/", "https://1.1.1.1e0/",
    "https://[::1", "https://::1/", "https://[::1]x/", "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/",
    "https://[v1.a]/", "https://[1.1.1.1]/", "https://[:::]/", "https://[]/", "https://[[::1]]/",
    "https://example.com/%", "https://example.com/%0", "https://example.com/%zz", "https://example.com/<script>",
    "https://example.com/{a}", "https://example.com/a|b", "https://example.com/^", "https://example.com/`",
    'https://example.com/"', "https://https://example.com/",
)  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_refused(url):
    with pytest.raises(FetchError) as caught:
        parse(url)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "url",
    [
        "secret", "https://secret:secret@a.com/", "https://a.com/secret#secret",
        "https://a.com/secret?secret ", "https://secret/", "https://secret./", "https://a.secret1/", "https://a.com:secret/",
        "secret://a.com/", "https://a.com/secret%", "https://[secret]/", "https://[fe80::secret]/",
        "https://a.com/" + "secret" * 2000,
    ],
)  # fmt: skip
def test_what_is_refused_is_not_repeated(url):
    with pytest.raises(FetchError) as caught:
        parse(url)
    assert "secret" not in str(caught.value)


PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.255
169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.9 192.0.0.10 192.0.0.192 192.0.2.1 192.31.196.1
192.52.193.1 192.88.99.1 192.168.0.1 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1
224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::1.1.1.1 ::ffff:127.0.0.1
::ffff:1.1.1.1 ::ffff:0:1.1.1.1 64:ff9b::7f00:1 64:ff9b::101:101 64:ff9b:1::1 100::1 2001::1
2001:0:4136:e378::1 2001:2::1 2001:10::1 2001:1ff::1 2001:db8::1 2002:7f00:1:: 2002:101:101::1
2620:4f:8000::1 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 2606:4700::1%eth0 fec0::1
ff02::1 ff0e::1
""".split()


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_of_the_public_internet(text):
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    "1.1.1.1 8.8.8.8 93.184.216.34 100.63.255.255 100.128.0.1 172.32.0.1 192.0.1.1 192.167.1.1"
    " 223.255.255.255 2606:4700::1111 2001:4860:4860::8888 2001:200::1 2a00:1450::1 2c0f::1".split(),
)
def test_what_is(text):
    assert is_public(ip_address(text))


def allowed(policy: UrlPolicy, url: str) -> bool:
    try:
        check(parse(url), policy)
    except FetchError:
        return False
    return True


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("Images.Example.com",
         ("https://images.example.com/", "https://IMAGES.example.COM:443/"),
         ("https://example.com/", "https://a.images.example.com/", "https://images.example.com.org/",
          "https://ximages.example.com/", "https://images.example.com:8443/", "http://images.example.com/")),
        ("*.example.com",
         ("https://a.example.com/", "https://a.b.EXAMPLE.com/"),
         ("https://example.com/", "https://badexample.com/", "https://a.example.com.org/", "https://a.example.com:80/")),
        ("*.com", ("https://example.com/",), ("https://example.org/", "https://1.1.1.1/")),
        ("*", ("https://example.com/",), ("https://1.1.1.1/", "https://[2606:4700::1]/", "https://example.com:22/")),
        ("*:8443", ("https://example.com:8443/",), ("https://example.com/", "https://1.1.1.1:8443/")),
        ("example.com:8443", ("https://example.com:8443/",), ("https://example.com/",)),
        ("1.1.1.1", ("https://1.1.1.1/",), ("https://1.1.1.2/",)),
        ("[2606:4700:0::1]", ("https://[2606:4700::1]/",), ("https://[2606:4700::2]/",)),
        ("[2606:4700:0::1]:8443", ("https://[2606:4700::1]:8443/",), ("https://[2606:4700::1]/",)),
    ],
)  # fmt: skip
def test_patterns(pattern, yes, no):
    policy = UrlPolicy(hosts=(pattern,))
    assert [url for url in (*yes, *no) if allowed(policy, url)] == list(yes)
    assert UrlPolicy(hosts=policy.hosts) == policy


def test_http_is_a_choice_and_has_its_own_port():
    both = UrlPolicy(hosts=("example.com",), http=True)
    assert allowed(both, "http://example.com/")
    assert allowed(both, "https://example.com/")
    assert not allowed(both, "http://example.com:443/")
    assert not allowed(both, "https://example.com:80/")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        *(({"hosts": hosts}, "hosts") for hosts in (
            (), "example.com", ["example.com"], None, (3,), ("",), ("https://example.com",), ("a.com/",),
            ("example",), ("localhost",), ("*.localhost",), ("a.*.com",), ("*example.com",),
            ("**.example.com",), ("*.",), ("*.*.com",), ("example.com.",), ("exämple.com",),
            ("0x7f.1",), ("127.1",), ("*.1.1.1.1",), ("::1",), ("[::1",), ("*.[::1]",), ("example.com:",),
            ("example.com:0",), ("example.com:65536",),
            ("example.com:*",), ("me@example.com",), ("example.com", ""),
        )),
        *(({"http": value}, "http") for value in (1, None, "yes")),
        *(({"timeout": value}, "timeout") for value in (0, -1, float("nan"), float("inf"), None, "9", True)),
    ],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_is_refused_where_it_is_made(wrong, named):
    with pytest.raises(ParameterError, match=f"^{named}: .*allowed: "):
        UrlPolicy(**{"hosts": ("example.com",)} | wrong)


@pytest.mark.parametrize("urls", [True, "*", ("example.com",), {}])
def test_an_input_policy_takes_a_url_policy_and_nothing_like_it(urls):
    with pytest.raises(ParameterError, match=r"^urls: is a .*; allowed: a UrlPolicy or None"):
        InputPolicy(urls=urls)
    assert InputPolicy().urls is None
