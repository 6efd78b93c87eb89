/* The Prometheus text holds what was counted, and no text a client chose. */
#include <string.h>

#include "fixture.h"
#include "test.h"
#include "work/metrics.h"

TEST(metrics_tell_what_was_counted)
{
    struct fixture f;
    AUTO(buf) text = BUF_INIT(1 << 20);
    const char *t;

    if (!fixture_init(&f, 1))
        return;
    metrics_request(f.service->metrics, "/v1/projects/{p}/labels", "POST", 201, 0.002);
    metrics_request(f.service->metrics, "/v1/projects/{p}/labels", "POST", 201, 0.2);
    metrics_request(f.service->metrics, "/v1/projects/{p}/labels", "POST", 422, 0.002);
    metrics_request(f.service->metrics, "", "EVIL\"", 404, 0.002);
    metrics_labels_accepted(f.service->metrics, 7);
    metrics_labels_rejected(f.service->metrics, "unknown-class", 2);
    metrics_unavailable(f.service->metrics, "queue-full");
    metrics_run_ended(f.service->metrics, "succeeded", 1.5, 100);
    CHECK_INT(metrics_write(f.service->metrics, f.service, &text), AMX_OK);
    t = buf_string(&text);
    CHECK(strstr(t,
                 "annotmix_http_requests_total{route=\"/v1/projects/{p}/labels\",method=\"POST\",status=\"201\"} 2\n"));
    CHECK(strstr(t, "status=\"422\"} 1\n") != NULL);
    CHECK(strstr(t, "route=\"\",method=\"other\",status=\"404\"} 1\n") != NULL);
    CHECK(strstr(t, "EVIL") == NULL);
    CHECK(strstr(t, "_bucket{route=\"/v1/projects/{p}/labels\",method=\"POST\",le=\"0.0025\"} 2\n") != NULL);
    CHECK(strstr(t, "_bucket{route=\"/v1/projects/{p}/labels\",method=\"POST\",le=\"+Inf\"} 3\n") != NULL);
    CHECK(strstr(t, "annotmix_labels_accepted_total 7\n") != NULL);
    CHECK(strstr(t, "annotmix_labels_rejected_total{problem=\"unknown-class\"} 2\n") != NULL);
    CHECK(strstr(t, "annotmix_unavailable_total{cause=\"queue-full\"} 1\n") != NULL);
    CHECK(strstr(t, "annotmix_training_runs{state=\"queued\"} 0\n") != NULL);
    CHECK(strstr(t, "annotmix_build_info{version=") != NULL);
    CHECK(strstr(t, "annotmix_disk_free_bytes ") != NULL);
    fixture_done(&f);
}
