"""Programs of others that read HTTP/1.1 requests, asked what they understood: h11, llhttp (Node), nginx, Envoy."""
